// Products of one group of output channels (kernels.hpp) with a few rows.
#pragma once
#include "kernels.hpp"

namespace mz {

constexpr int kAhead = MZ_WIDE ? 4096 : 2048;  // bytes of weights asked for in advance

// Several rows keep the core busy for longer than the hardware looks ahead, so the weights are asked for early: with this,
// four rows cost hardly more than the one pass over memory that a single row costs.
inline void ahead(const uint8_t* w, int bytes) {
  for (int i = 0; i < bytes; i += 64) _mm_prefetch(reinterpret_cast<const char*>(w) + kAhead + i, _MM_HINT_T0);
}

// Keeps the compiler from computing the terms of a sum first and adding them later: there are more terms than registers.
inline void in_order(Ints& sum) { asm("" : "+v"(sum)); }

// Products of one group of channels with MT rows of one tile; out[m] holds the channels of row m.  The weights are unpacked
// a few at a time, so that they, the sums of eight rows and a product fit the registers.
template <int MT>
inline void group_q4(const uint8_t* w, int nb, const int8_t* q, const float* scale, const float* sum, Floats* out) {
  Floats acc[MT];
#pragma GCC unroll 8
  for (int m = 0; m < MT; ++m) acc[m] = all<Floats>(0);
  for (int b = 0; b < nb; ++b, w += kQ4Bytes, q += kTile * kBlock, scale += kTile, sum += kTile) {
    ahead(w, kQ4Bytes);
    Ints t[MT];
#pragma GCC unroll 8
    for (int m = 0; m < MT; ++m) t[m] = zeros();
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      const Ints v = load_codes(w + i * kWide * 4), c0 = low_codes(v), c1 = high_codes(v);
#pragma GCC unroll 8
      for (int m = 0; m < MT; ++m) {
        const int8_t* x = q + m * kBlock + 8 * i;
        t[m] = add_bytes(add_bytes(t[m], c0, broadcast(x)), c1, broadcast(x + 4));
        in_order(t[m]);
      }
    }
    const auto* half = reinterpret_cast<const uint16_t*>(w + kWide * kBlock / 2);
    const Floats s = load(half), minimum = load(half + kWide);
#pragma GCC unroll 8
    for (int m = 0; m < MT; ++m) {
      acc[m] = mul_add(to_floats(gathered(t[m])), mul(s, all<Floats>(scale[m])), acc[m]);
      acc[m] = mul_add(minimum, all<Floats>(sum[m]), acc[m]);
    }
  }
#pragma GCC unroll 8
  for (int m = 0; m < MT; ++m) out[m] = acc[m];
}

// The same for eight-bit codes; sums(block, codes, t) makes the integer sums of a block.
template <int MT, class Sums>
inline void group_of_eight(const uint8_t* w, int nb, const float* scale, Floats* out, Sums sums) {
  Floats acc[MT];
#pragma GCC unroll 8
  for (int m = 0; m < MT; ++m) acc[m] = all<Floats>(0);
  for (int b = 0; b < nb; ++b, w += kQ8Bytes, scale += kTile) {
    ahead(w, kQ8Bytes);
    Ints t[MT];
    sums(b, w, t);
    const Floats s = load(reinterpret_cast<const uint16_t*>(w + kWide * kBlock));
#pragma GCC unroll 8
    for (int m = 0; m < MT; ++m) acc[m] = mul_add(to_floats(t[m]), mul(s, all<Floats>(scale[m])), acc[m]);
  }
#pragma GCC unroll 8
  for (int m = 0; m < MT; ++m) out[m] = acc[m];
}

template <int MT>
inline void group_q8(const uint8_t* w, int nb, const int16_t* q, const float* scale, Floats* out) {
  group_of_eight<MT>(w, nb, scale, out, [q](int b, const uint8_t* codes, Ints* t) {
#pragma GCC unroll 8
    for (int m = 0; m < MT; ++m) t[m] = zeros();
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) {
      const Ints c0 = load_widened(codes + 4 * i * kWide), c1 = load_widened(codes + (4 * i + 2) * kWide);
#pragma GCC unroll 8
      for (int m = 0; m < MT; ++m) {
        const int16_t* x = q + (b * kTile + m) * kBlock + 4 * i;
        t[m] = add_words(add_words(t[m], c0, broadcast(x)), c1, broadcast(x + 2));
        in_order(t[m]);
      }
    }
  });
}

// Of codes by fours; only where the processor multiplies bytes.
template <int MT>
inline void group_head(const uint8_t* w, int nb, const int8_t* q, const float* scale, const int32_t* start, Floats* out) {
  group_of_eight<MT>(w, nb, scale, out, [q, start](int b, const uint8_t* codes, Ints* t) {
#pragma GCC unroll 8
    for (int m = 0; m < MT; ++m) t[m] = words(start[b * kTile + m]);
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) {
      const Ints c = load_bytes(codes + 4 * i * kWide);
#pragma GCC unroll 8
      for (int m = 0; m < MT; ++m) {
        t[m] = add_bytes(t[m], c, broadcast(q + (b * kTile + m) * kBlock + 4 * i));
        in_order(t[m]);
      }
    }
  });
}

template <int MT>
inline void group(const Linear& w, int g, const Quantised& x, int m0, Floats* out) {
  const uint8_t* data = w.data + size_t(g) * w.group_bytes();
  const size_t at = x.cell(m0, 0);
  const int nb = x.k / kBlock;
  if (w.kind == kQ4) group_q4<MT>(data, nb, x.q8 + at * kBlock, x.scale + at, x.sum + at, out);
  else if (by_fours(w.kind)) group_head<MT>(data, nb, x.q8 + at * kBlock, x.scale + at, x.start + at, out);
  else group_q8<MT>(data, nb, x.q16 + at * kBlock, x.scale + at, out);
}

// Calls write(row, channel, values of kWide channels from it on) for all rows and the channels from `first` to `last`, both
// multiples of 16, or the end; where a matrix ends within a vector, what fills it up is 0.
template <class Write>
inline void multiply(const Linear& w, int first, int last, const Quantised& x, int rows, Write write) {
  Floats out[kTile];
  for (int channel = first; channel < last; channel += kWide)
    for (int m = 0; m < rows; m += kTile) {
      const int n = std::min(kTile, rows - m), g = channel / kWide;
      switch (n) {
        case 1: group<1>(w, g, x, m, out); break;
        case 2: group<2>(w, g, x, m, out); break;
        case 3: group<3>(w, g, x, m, out); break;
        case 4: group<4>(w, g, x, m, out); break;
        case 5: group<5>(w, g, x, m, out); break;
        case 6: group<6>(w, g, x, m, out); break;
        case 7: group<7>(w, g, x, m, out); break;
        default: group<8>(w, g, x, m, out);
      }
      for (int i = 0; i < n; ++i) write(m + i, channel, out[i]);
    }
}

}  // namespace mz
