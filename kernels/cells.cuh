// The arithmetic of one recurrent cell, forward and backward, on plain floats: shared by the persistent and the
// stepwise kernels. Slots and meanings are those of params.h. E chooses the activations' accuracy (short types: the
// hardware's tanh.approx; float: accurate).
//
// The template arguments of a kernel are a cell and E. Every cell has:
//   SLOTS       slots of a unit in gates, w and table
//   PRODUCTS    slots that the recurrent product fills (the GRU's slot 2 has zero rows in W_hh)
//   product_slot(i)  the slot of the i-th of them
//   CELL_STATE  true where there is a c beside h
//   forward     pre[SLOTS] -> gates[SLOTS] (to be saved) and h, returned. c: cell state, updated in place
//   backward    gates[SLOTS], c_prev, c, h_prev as forward had them; dh: the whole gradient of h; dc: gradient of c from
//               the next step in, gradient of c_prev out -> dpre[SLOTS], dh_direct (the part of the gradient of h_prev
//               that does not go through W_hh)
// h_prev, c_prev are masked by the caller where the step resets; so are dc and dh_direct on their way to step t-1.
#pragma once
#include "device.cuh"

struct Lstm {
  static constexpr int SLOTS = 4, PRODUCTS = 4;
  static constexpr bool CELL_STATE = true, DIRECT = false;
  DEVICE static constexpr int product_slot(int i) { return i; }

  template <class E>
  DEVICE static float forward(const float (&pre)[SLOTS], float /*h_prev*/, float& c, float (&gates)[SLOTS]) {
    gates[0] = dev::activate_sigmoid<E>(pre[0]);
    gates[1] = dev::activate_sigmoid<E>(pre[1]);
    gates[2] = dev::activate_tanh<E>(pre[2]);
    gates[3] = dev::activate_sigmoid<E>(pre[3]);
    c = gates[1] * c + gates[0] * gates[2];
    return gates[3] * dev::activate_tanh<E>(c);
  }

  template <class E>
  DEVICE static void backward(const float (&gates)[SLOTS], float c_prev, float c, float /*h_prev*/, float dh, float& dc,
                              float (&dpre)[SLOTS], float& dh_direct) {
    const float i = gates[0], f = gates[1], g = gates[2], o = gates[3], tc = dev::activate_tanh<E>(c);
    const float d = dc + dh * o * (1.f - tc * tc);
    dpre[0] = d * g * i * (1.f - i);
    dpre[1] = d * c_prev * f * (1.f - f);
    dpre[2] = d * i * (1.f - g * g);
    dpre[3] = dh * tc * o * (1.f - o);
    dc = d * f;
    dh_direct = 0.f;
  }
};

struct Gru {
  static constexpr int SLOTS = 4, PRODUCTS = 3;
  static constexpr bool CELL_STATE = false, DIRECT = true;
  DEVICE static constexpr int product_slot(int i) { return i == 2 ? 3 : i; }

  // pre[2]: the input's part of n, pre[3]: the recurrent part (W_hn h + b_hn)
  template <class E>
  DEVICE static float forward(const float (&pre)[SLOTS], float h_prev, float& /*c*/, float (&gates)[SLOTS]) {
    const float r = dev::activate_sigmoid<E>(pre[0]), z = dev::activate_sigmoid<E>(pre[1]);
    const float n = dev::activate_tanh<E>(pre[2] + r * pre[3]);
    gates[0] = r;
    gates[1] = z;
    gates[2] = n;
    gates[3] = pre[3];
    return n + z * (h_prev - n);
  }

  template <class E>
  DEVICE static void backward(const float (&gates)[SLOTS], float /*c_prev*/, float /*c*/, float h_prev, float dh,
                              float& /*dc*/, float (&dpre)[SLOTS], float& dh_direct) {
    const float r = gates[0], z = gates[1], n = gates[2], q = gates[3];
    const float dn = dh * (1.f - z) * (1.f - n * n);
    dpre[0] = dn * q * r * (1.f - r);
    dpre[1] = dh * (h_prev - n) * z * (1.f - z);
    dpre[2] = dn;
    dpre[3] = dn * r;
    dh_direct = dh * z;
  }
};

struct Rnn {
  static constexpr int SLOTS = 1, PRODUCTS = 1;
  static constexpr bool CELL_STATE = false, DIRECT = false;
  DEVICE static constexpr int product_slot(int i) { return i; }

  template <class E>
  DEVICE static float forward(const float (&pre)[SLOTS], float /*h_prev*/, float& /*c*/, float (&gates)[SLOTS]) {
    return gates[0] = dev::activate_tanh<E>(pre[0]);
  }

  template <class E>
  DEVICE static void backward(const float (&gates)[SLOTS], float /*c_prev*/, float /*c*/, float /*h_prev*/, float dh,
                              float& /*dc*/, float (&dpre)[SLOTS], float& dh_direct) {
    dpre[0] = dh * (1.f - gates[0] * gates[0]);
    dh_direct = 0.f;
  }
};
