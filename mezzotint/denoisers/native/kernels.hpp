// Matrix products of a few rows with quantised weights, and the vector mathematics around them.
//
// Rule of this file: what is computed for one row never depends on how many other rows are in the call, nor on the number
// of threads.  Every output channel of every row is one fixed sequence of integer and float operations.  That is what makes
// "verify eight tokens in one pass" return the very bits of eight single passes.
//
// Weights lie in groups of eight output channels, so that one vector holds eight channels and no horizontal sum is needed.
// Two kinds, both with one scale per 32 inputs of a channel:
//   Q4  value = scale * code + minimum, code in 0..15   (the arithmetic of GGUF's Q4_1), activations as 8-bit integers
//   Q8  value = scale * code,           code in -127..127 (that of Q8_0),                activations as 16-bit integers
#pragma once
#include <immintrin.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>

#if defined(__linux__)
#include <sys/mman.h>
#endif

// Whether the processor multiplies bytes and adds four of the products in one instruction.
#if defined(__AVXVNNI__) || (defined(__AVX512VNNI__) && defined(__AVX512VL__))
#define MZ_VNNI 1
#else
#define MZ_VNNI 0
#endif

namespace mz {

constexpr int kBlock = 32;       // inputs that share one scale
constexpr int kLanes = 8;        // output channels side by side
constexpr int kTile = 8;         // rows multiplied together
constexpr int kAhead = 2048;     // bytes of weights asked for in advance
constexpr int kQ4Bytes = 160;    // 128 of codes, 16 of scales, 16 of minima, for 8 channels x 32 inputs
constexpr int kQ8Bytes = 272;    // 256 of codes, 16 of scales

inline void* allocate(size_t bytes) {
  constexpr size_t page = size_t(1) << 21;
  size_t align = bytes >= page ? page : 64;
  void* p = std::aligned_alloc(align, (bytes + align - 1) / align * align);
#if defined(__linux__)
  if (p && bytes >= page) madvise(p, bytes, MADV_HUGEPAGE);  // a pass reads every weight once: TLB misses would show
#endif
  return p;
}

// Room for a matrix.  Most are smaller than a huge page, so they lie together in chunks of many, which live as long as
// any of their matrices.
inline std::shared_ptr<uint8_t> room(size_t bytes) {
  constexpr size_t chunk = size_t(32) << 20;
  static std::mutex busy;
  static std::weak_ptr<uint8_t> current;
  static size_t used = 0;
  bytes = (bytes + 63) / 64 * 64;
  std::lock_guard<std::mutex> lock(busy);
  std::shared_ptr<uint8_t> home = current.lock();
  if (bytes > chunk || !home || used + bytes > chunk) {
    home.reset(static_cast<uint8_t*>(allocate(std::max(bytes, chunk))), std::free);
    if (!home || bytes > chunk) return home;
    current = home, used = 0;
  }
  std::shared_ptr<uint8_t> found(home, home.get() + used);
  used += bytes;
  return found;
}

inline uint16_t to_half(float x) { return uint16_t(_mm_extract_epi16(_mm_cvtps_ph(_mm_set_ss(x), 0), 0)); }
inline __m256 load_half(const void* p) { return _mm256_cvtph_ps(_mm_loadu_si128(static_cast<const __m128i*>(p))); }

struct Linear {
  int kind = 4;  // 4 or 8
  int n = 0, k = 0;
  std::shared_ptr<uint8_t> home;
  uint8_t* data = nullptr;
  size_t group_bytes() const { return size_t(k / kBlock) * (kind == 4 ? kQ4Bytes : kQ8Bytes); }
};

// codes: [n][k] (uint8 for Q4, int8 for Q8), scale and minimum: [n][k / 32].
inline Linear* pack(int kind, int n, int k, const void* codes, const float* scale, const float* minimum) {
  if (n % kLanes || k % kBlock) return nullptr;
  auto* w = new Linear{kind, n, k, nullptr, nullptr};
  w->home = room(w->group_bytes() * (n / kLanes));
  w->data = w->home.get();
  if (!w->data) { delete w; return nullptr; }
  const int nb = k / kBlock;
  const auto* u = static_cast<const uint8_t*>(codes);
  for (int g = 0; g < n / kLanes; ++g)
    for (int b = 0; b < nb; ++b) {
      uint8_t* out = w->data + g * w->group_bytes() + size_t(b) * (kind == 4 ? kQ4Bytes : kQ8Bytes);
      for (int c = 0; c < kLanes; ++c) {
        const uint8_t* row = u + size_t(g * kLanes + c) * k + b * kBlock;
        if (kind == 4) {
          for (int pair = 0; pair < 4; ++pair) {  // four inputs in the low halves of a word, the next four in the high
            uint32_t low, high;
            std::memcpy(&low, row + 8 * pair, 4);
            std::memcpy(&high, row + 8 * pair + 4, 4);
            low |= high << 4;
            std::memcpy(out + pair * 32 + c * 4, &low, 4);
          }
        } else {
          for (int pair = 0; pair < 16; ++pair) std::memcpy(out + pair * 16 + c * 2, row + 2 * pair, 2);
        }
        auto* half = reinterpret_cast<uint16_t*>(out + (kind == 4 ? 128 : 256));
        half[c] = to_half(scale[size_t(g * kLanes + c) * nb + b]);
        if (kind == 4) half[kLanes + c] = to_half(minimum[size_t(g * kLanes + c) * nb + b]);
      }
    }
  return w;
}

// One row of a Q8 matrix as floats: the embedding of a token, read from the matrix that is also the output head.
inline void unpack_row(const Linear& w, int row, float* out) {
  const uint8_t* group = w.data + size_t(row / kLanes) * w.group_bytes();
  int c = row % kLanes;
  for (int b = 0; b < w.k / kBlock; ++b) {
    const uint8_t* p = group + size_t(b) * kQ8Bytes;
    float s = _cvtsh_ss(reinterpret_cast<const uint16_t*>(p + 256)[c]);
    for (int i = 0; i < kBlock; ++i) out[b * kBlock + i] = s * float(int8_t(p[(i / 2) * 16 + c * 2 + i % 2]));
  }
}

// Activations in the integer form that the products read, in tiles of eight rows: [tile][block][row in tile][32].
struct Quantised {
  int8_t* q8 = nullptr;
  int16_t* q16 = nullptr;
  float* scale = nullptr;  // [tile][block][row in tile]
  float* sum = nullptr;    // the same, of the unquantised values
  int k = 0;
  void reserve(int rows, int width) {
    k = width;
    const size_t cells = size_t(rows + kTile - 1) / kTile * kTile * k;
    q8 = static_cast<int8_t*>(allocate(cells));
    q16 = static_cast<int16_t*>(allocate(cells * 2));
    scale = static_cast<float*>(allocate(cells / kBlock * 4));
    sum = static_cast<float*>(allocate(cells / kBlock * 4));
  }
  void release() { std::free(q8); std::free(q16); std::free(scale); std::free(sum); }
  size_t cell(int m, int b) const { return (size_t(m / kTile) * (k / kBlock) + b) * kTile + m % kTile; }
};

inline float sum8(__m256 v) {
  __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  s = _mm_add_ps(s, _mm_movehl_ps(s, s));
  return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}

inline float max8(__m256 v) {
  __m128 s = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  s = _mm_max_ps(s, _mm_movehl_ps(s, s));
  return _mm_cvtss_f32(_mm_max_ss(s, _mm_movehdup_ps(s)));
}

// x: 32 floats of block b of row m.
inline void quantise_block(const Quantised& to, int kind, int m, int b, const float* x) {
  const __m256 sign = _mm256_set1_ps(-0.0f);
  __m256 v[4], top = _mm256_setzero_ps(), total = _mm256_setzero_ps();
  for (int i = 0; i < 4; ++i) {
    v[i] = _mm256_loadu_ps(x + 8 * i);
    top = _mm256_max_ps(top, _mm256_andnot_ps(sign, v[i]));
    total = _mm256_add_ps(total, v[i]);
  }
  const float limit = kind == 4 ? 127.0f : 32767.0f, amax = max8(top);
  const size_t at = to.cell(m, b);
  to.scale[at] = amax / limit;
  to.sum[at] = sum8(total);
  const __m256 inverse = _mm256_set1_ps(amax > 0 ? limit / amax : 0.0f);
  __m256i r[4];
  for (int i = 0; i < 4; ++i) r[i] = _mm256_cvtps_epi32(_mm256_mul_ps(v[i], inverse));
  const __m256i lo = _mm256_permute4x64_epi64(_mm256_packs_epi32(r[0], r[1]), 0xd8);
  const __m256i hi = _mm256_permute4x64_epi64(_mm256_packs_epi32(r[2], r[3]), 0xd8);
  if (kind == 4) {
    const __m256i bytes = _mm256_permute4x64_epi64(_mm256_packs_epi16(lo, hi), 0xd8);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to.q8 + at * kBlock), bytes);
  } else {
    auto* p = reinterpret_cast<__m256i*>(to.q16 + at * kBlock);
    _mm256_storeu_si256(p, lo);
    _mm256_storeu_si256(p + 1, hi);
  }
}

inline void quantise_row(const Quantised& to, int kind, int m, const float* x) {
  for (int b = 0; b < to.k / kBlock; ++b) quantise_block(to, kind, m, b, x + b * kBlock);
}

inline __m256i broadcast(const void* p) {
  int32_t word;
  std::memcpy(&word, p, 4);
  return _mm256_set1_epi32(word);
}

// Several rows keep the core busy for longer than the hardware looks ahead, so the weights are asked for early: with this,
// four rows cost hardly more than the one pass over memory that a single row costs.
inline void ahead(const uint8_t* w, int bytes) {
  for (int i = 0; i < bytes; i += 64) _mm_prefetch(reinterpret_cast<const char*>(w) + kAhead + i, _MM_HINT_T0);
}

// Keeps the compiler from computing the terms of a sum first and adding them later: there are more terms than registers.
inline void in_order(__m256i& sum) { asm("" : "+x"(sum)); }

// Products of one group of eight channels with MT rows of one tile; out[m] holds channels 0..7 of row m.  The weights are
// unpacked a few at a time, so that they, the sums of eight rows and a product fit the registers.
template <int MT>
inline void group_q4(const uint8_t* w, int nb, const int8_t* q, const float* scale, const float* sum, __m256* out) {
  const __m256i low = _mm256_set1_epi8(15);
  [[maybe_unused]] const __m256i ones = _mm256_set1_epi16(1);
  __m256 acc[MT];
#pragma GCC unroll 8
  for (int m = 0; m < MT; ++m) acc[m] = _mm256_setzero_ps();
  for (int b = 0; b < nb; ++b, w += kQ4Bytes, q += kTile * kBlock, scale += kTile, sum += kTile) {
    ahead(w, kQ4Bytes);
    __m256i t[MT];
#pragma GCC unroll 8
    for (int m = 0; m < MT; ++m) t[m] = _mm256_setzero_si256();
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      const __m256i v = _mm256_load_si256(reinterpret_cast<const __m256i*>(w) + i);
      const __m256i c0 = _mm256_and_si256(v, low), c1 = _mm256_and_si256(_mm256_srli_epi16(v, 4), low);
#pragma GCC unroll 8
      for (int m = 0; m < MT; ++m) {
        const int8_t* x = q + m * kBlock + 8 * i;
#if MZ_VNNI
        t[m] = _mm256_dpbusd_epi32(_mm256_dpbusd_epi32(t[m], c0, broadcast(x)), c1, broadcast(x + 4));
#else
        // A pair of products is at most 2 * 15 * 127 = 3810, so eight of them still fit in 16 bits.
        t[m] = _mm256_add_epi16(t[m], _mm256_maddubs_epi16(c0, broadcast(x)));
        t[m] = _mm256_add_epi16(t[m], _mm256_maddubs_epi16(c1, broadcast(x + 4)));
#endif
        in_order(t[m]);
      }
    }
    const __m256 s = load_half(w + 128), minimum = load_half(w + 144);
#pragma GCC unroll 8
    for (int m = 0; m < MT; ++m) {
#if !MZ_VNNI
      t[m] = _mm256_madd_epi16(t[m], ones);
#endif
      acc[m] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(t[m]), _mm256_mul_ps(s, _mm256_set1_ps(scale[m])), acc[m]);
      acc[m] = _mm256_fmadd_ps(minimum, _mm256_set1_ps(sum[m]), acc[m]);
    }
  }
#pragma GCC unroll 8
  for (int m = 0; m < MT; ++m) out[m] = acc[m];
}

template <int MT>
inline void group_q8(const uint8_t* w, int nb, const int16_t* q, const float* scale, __m256* out) {
  __m256 acc[MT];
#pragma GCC unroll 8
  for (int m = 0; m < MT; ++m) acc[m] = _mm256_setzero_ps();
  for (int b = 0; b < nb; ++b, w += kQ8Bytes, q += kTile * kBlock, scale += kTile) {
    ahead(w, kQ8Bytes);
    __m256i t[MT];
#pragma GCC unroll 8
    for (int m = 0; m < MT; ++m) t[m] = _mm256_setzero_si256();
#pragma GCC unroll 8
    for (int part = 0; part < 8; ++part) {
      const auto* codes = reinterpret_cast<const __m128i*>(w) + 2 * part;
      const __m256i c0 = _mm256_cvtepi8_epi16(_mm_loadu_si128(codes)), c1 = _mm256_cvtepi8_epi16(_mm_loadu_si128(codes + 1));
#pragma GCC unroll 8
      for (int m = 0; m < MT; ++m) {
        const int16_t* x = q + m * kBlock + 4 * part;
        t[m] = _mm256_add_epi32(t[m], _mm256_madd_epi16(c0, broadcast(x)));
        t[m] = _mm256_add_epi32(t[m], _mm256_madd_epi16(c1, broadcast(x + 2)));
        in_order(t[m]);
      }
    }
    const __m256 s = load_half(w + 256);
#pragma GCC unroll 8
    for (int m = 0; m < MT; ++m)
      acc[m] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(t[m]), _mm256_mul_ps(s, _mm256_set1_ps(scale[m])), acc[m]);
  }
#pragma GCC unroll 8
  for (int m = 0; m < MT; ++m) out[m] = acc[m];
}

template <int MT>
inline void group(const Linear& w, int g, const Quantised& x, int m0, __m256* out) {
  const uint8_t* data = w.data + size_t(g) * w.group_bytes();
  const size_t at = x.cell(m0, 0);
  const int nb = x.k / kBlock;
  if (w.kind == 4) group_q4<MT>(data, nb, x.q8 + at * kBlock, x.scale + at, x.sum + at, out);
  else group_q8<MT>(data, nb, x.q16 + at * kBlock, x.scale + at, out);
}

// Calls write(row, channels 0..7 of group g) for every row.
template <class Write>
inline void multiply_group(const Linear& w, int g, const Quantised& x, int rows, Write write) {
  __m256 out[kTile];
  for (int m = 0; m < rows; m += kTile) {
    const int n = std::min(kTile, rows - m);
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
    for (int i = 0; i < n; ++i) write(m + i, out[i]);
  }
}

// e^x for x in [-87, 87]: 2^n times a polynomial of degree 6 on [-ln2/2, ln2/2]; relative error below 2e-7.
inline __m256 exp8(__m256 x) {
  x = _mm256_min_ps(_mm256_max_ps(x, _mm256_set1_ps(-87.0f)), _mm256_set1_ps(87.0f));
  const __m256 n = _mm256_round_ps(_mm256_mul_ps(x, _mm256_set1_ps(1.44269504f)), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  __m256 r = _mm256_fnmadd_ps(n, _mm256_set1_ps(0.693359375f), x);
  r = _mm256_fnmadd_ps(n, _mm256_set1_ps(-2.12194440e-4f), r);
  __m256 p = _mm256_set1_ps(1.0f / 720);
  for (float c : {1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1.0f, 1.0f}) p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(c));
  const __m256i bits = _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23);
  return _mm256_mul_ps(p, _mm256_castsi256_ps(bits));
}

inline __m256 silu8(__m256 x) {
  const __m256 one = _mm256_set1_ps(1.0f);
  return _mm256_div_ps(x, _mm256_add_ps(one, exp8(_mm256_sub_ps(_mm256_setzero_ps(), x))));
}

// y = x / rms(x) * weight (RMSNorm, arXiv 1910.07467 eq. 4); without a weight where there is none.
inline void rms_norm(const float* x, const float* weight, int d, float eps, float* y) {
  __m256 s = _mm256_setzero_ps();
  for (int i = 0; i < d; i += 8) {
    const __m256 v = _mm256_loadu_ps(x + i);
    s = _mm256_fmadd_ps(v, v, s);
  }
  const __m256 r = _mm256_set1_ps(1.0f / std::sqrt(sum8(s) / float(d) + eps));
  for (int i = 0; i < d; i += 8) {
    const __m256 v = _mm256_mul_ps(_mm256_loadu_ps(x + i), r);
    _mm256_storeu_ps(y + i, weight ? _mm256_mul_ps(v, _mm256_loadu_ps(weight + i)) : v);
  }
}

}  // namespace mz
