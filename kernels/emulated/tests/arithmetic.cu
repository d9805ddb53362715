// Conversions and activations of device.cuh on whole arrays, for a comparison on the host.
#include "device.cuh"
#include "params.h"

template <class E> DEVICE void widen(const TestParams& p) {
  for (int i = int(threadIdx.x); i < p.n; i += int(blockDim.x)) {
    E e{uint16_t(p.in[i])};
    p.out[i] = __float_as_uint(dev::to_float(e));
  }
}
template <class E> DEVICE void narrow(const TestParams& p) {
  for (int i = int(threadIdx.x); i < p.n; i += int(blockDim.x)) {
    float x = __uint_as_float(p.in[i]);
    uint32_t both = dev::pack<E>(x, -x);
    bool same = (both & 0xffffu) == dev::from_float<E>(x).v && (both >> 16) == dev::from_float<E>(-x).v;
    float back = dev::low<E>(both), minus = dev::high<E>(both);
    same = same && (back == -minus || back != back);
    p.out[i] = same ? both & 0xffffu : 0xffffffffu;
  }
}
KERNEL(widen_bf16, TestParams, 256) { widen<bf16>(p); }
KERNEL(widen_f16, TestParams, 256) { widen<f16>(p); }
KERNEL(narrow_bf16, TestParams, 256) { narrow<bf16>(p); }
KERNEL(narrow_f16, TestParams, 256) { narrow<f16>(p); }

template <class F> DEVICE void mapped(const TestParams& p, F f) {
  for (int i = int(threadIdx.x); i < p.n; i += int(blockDim.x))
    p.out[i] = __float_as_uint(f(__uint_as_float(p.in[i])));
}
KERNEL(map_tanh_exact, TestParams, 256) {
  mapped(p, [](float x) { return dev::activate_tanh<float>(x); });
}
KERNEL(map_sigmoid_exact, TestParams, 256) {
  mapped(p, [](float x) { return dev::activate_sigmoid<float>(x); });
}
KERNEL(map_tanh_fast, TestParams, 256) {
  mapped(p, [](float x) { return dev::activate_tanh<bf16>(x); });
}
KERNEL(map_sigmoid_fast, TestParams, 256) {
  mapped(p, [](float x) { return dev::activate_sigmoid<f16>(x); });
}
