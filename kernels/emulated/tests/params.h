// The parameters of every kernel of the emulator's own tests.
#pragma once
#include <stdint.h>

struct TestParams {
  const uint32_t* in;
  uint32_t* out;
  int32_t n;
  int32_t pad;
};
