// Warp collectives that move data: shuffle, ballot, ldmatrix, mma.
#include "internal.h"

namespace emulated {

void shuffle(uint32_t mask, uint32_t* words, int count, int source, const char* name, Site at) {
  Fibre* me = current();
  Warp* w = me->warp;
  uint32_t* in = w->in[me->lane];
  for (int i = 0; i < count; ++i) in[i] = words[i];
  in[2] = uint32_t(source);
  meet(mask, name, at, [](Warp* warp, uint32_t lanes, Site site) {
    for (int i = 0; i < warp->count; ++i) {
      if ((lanes >> i & 1u) == 0) continue;
      uint32_t from = warp->in[i][2];
      if (from > 31 || (lanes >> from & 1u) == 0) fail("a shuffle from a lane outside the mask", site);
      warp->out[i][0] = warp->in[from][0];
      warp->out[i][1] = warp->in[from][1];
    }
  });
  for (int i = 0; i < count; ++i) words[i] = w->out[me->lane][i];
}

uint32_t ballot(uint32_t mask, bool predicate, const char* name, Site at) {
  Fibre* me = current();
  me->warp->in[me->lane][0] = predicate;
  meet(mask, name, at, [](Warp* w, uint32_t lanes, Site) {
    uint32_t votes = 0;
    for (int i = 0; i < w->count; ++i)
      if ((lanes >> i & 1u) != 0) votes |= w->in[i][0] << i;
    for (int i = 0; i < w->count; ++i)
      if ((lanes >> i & 1u) != 0) w->out[i][0] = votes;
  });
  return me->warp->out[me->lane][0];
}

// Matrix m has its rows at the addresses of lanes 8m to 8m + 7. Lane l gets elements (l/4, 2(l%4)) and its right
// neighbour, of the transposed matrix: (2(l%4), l/4) and the one below.
void ldmatrix(uint32_t* registers, int matrices, const void* row, bool transposed, Site at) {
  Fibre* me = current();
  Warp* w = me->warp;
  if (w->count != 32) fail("ldmatrix in a warp of fewer than 32 threads", at);
  if (me->lane < matrices * 8) {
    if (reinterpret_cast<uintptr_t>(row) % 16 != 0) fail("ldmatrix: a row is not aligned to 16 bytes", at);
    if (!me->home->holds(row, 16)) fail("ldmatrix: a row is not in the block's shared memory", at);
    if (forbidden(row, 16)) fail("ldmatrix reads outside of its array", at);
  }
  w->rows[me->lane] = row;
  w->in[me->lane][0] = uint32_t(matrices);
  w->in[me->lane][1] = transposed;
  meet(~0u, transposed ? "ldmatrix_trans" : "ldmatrix", at, [](Warp* warp, uint32_t, [[maybe_unused]] Site site) {
    int count = int(warp->in[0][0]);
    bool across = warp->in[0][1] != 0;
    for (int l = 0; l < 32; ++l) {
      int g = l >> 2, q = l & 3;
      for (int m = 0; m < count; ++m) {
        const void* const* rows = warp->rows + m * 8;
        const uint16_t* p0 = static_cast<const uint16_t*>(rows[across ? 2 * q : g]) + (across ? g : 2 * q);
        const uint16_t* p1 = across ? static_cast<const uint16_t*>(rows[2 * q + 1]) + g : p0 + 1;
        race_access(warp->lanes[l], p0, 2, Access::Read, site);
        race_access(warp->lanes[l], p1, 2, Access::Read, site);
        warp->out[l][m] = uint32_t(*p0) | uint32_t(*p1) << 16;
      }
    }
  });
  for (int m = 0; m < matrices; ++m) registers[m] = w->out[me->lane][m];
}

namespace {
// The fragments of m16n8k16: lane l holds row l/4 (+8) of A, column l/4 of B, columns 2(l%4) and the next of D.
template <bool HALF> void mma_warp(Warp* w, uint32_t, Site) {
  auto wide = [](uint32_t bits) { return HALF ? from_f16(uint16_t(bits)) : from_bf16(uint16_t(bits)); };
  float a[16][16], b[16][8], d[16][8];
  for (int l = 0; l < 32; ++l) {
    int g = l >> 2, q = l & 3;
    const uint32_t* in = w->in[l];
    for (int r = 0; r < 4; ++r) {
      int row = g + (r & 1) * 8, column = q * 2 + (r >> 1) * 8;
      a[row][column] = wide(in[r] & 0xffffu);
      a[row][column + 1] = wide(in[r] >> 16);
      d[g + (r >> 1) * 8][q * 2 + (r & 1)] = bits_float(in[6 + r]);
    }
    for (int r = 0; r < 2; ++r) {
      b[q * 2 + r * 8][g] = wide(in[4 + r] & 0xffffu);
      b[q * 2 + r * 8 + 1][g] = wide(in[4 + r] >> 16);
    }
  }
  for (int i = 0; i < 16; ++i) {
    float sum[8] = {0};
    for (int k = 0; k < 16; ++k)
      for (int j = 0; j < 8; ++j) sum[j] += a[i][k] * b[k][j];
    for (int j = 0; j < 8; ++j) d[i][j] += sum[j];
  }
  for (int l = 0; l < 32; ++l)
    for (int r = 0; r < 4; ++r) w->out[l][r] = float_bits(d[(l >> 2) + (r >> 1) * 8][(l & 3) * 2 + (r & 1)]);
}
}  // namespace

void mma(bool half, float (&d)[4], const uint32_t (&fragments)[6], Site at) {
  Fibre* me = current();
  Warp* w = me->warp;
  if (w->count != 32) fail("mma in a warp of fewer than 32 threads", at);
  uint32_t* in = w->in[me->lane];
  memcpy(in, fragments, 24);
  memcpy(in + 6, d, 16);
  meet(~0u, half ? "mma f16" : "mma bf16", at, half ? mma_warp<true> : mma_warp<false>);
  memcpy(d, w->out[me->lane], 16);
}

}  // namespace emulated
