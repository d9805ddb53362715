// The gate slots of one unit, S = 4 or 1 neighbouring elements, as floats.
#pragma once
#include "quad.cuh"

template <class E, int S>
DEVICE void load_slots(const E* from, float (&slots)[S]) {
  if constexpr (S == 4) {
    const float4 v = load_quad(from);
    slots[0] = v.x;
    slots[1] = v.y;
    slots[2] = v.z;
    slots[3] = v.w;
  } else {
    static_assert(S == 1, "a unit has one slot or four");
    slots[0] = dev::to_float(*from);
  }
}

template <class E, int S>
DEVICE void store_slots(E* to, const float (&slots)[S]) {
  if constexpr (S == 4)
    store_quad(to, make_float4(slots[0], slots[1], slots[2], slots[3]));
  else
    *to = dev::from_float<E>(slots[0]);
}
