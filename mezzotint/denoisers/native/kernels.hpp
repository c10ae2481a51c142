// Matrix products of a few rows with quantised weights, and the vector mathematics around them.
//
// Rule of this file: what is computed for one row never depends on how many other rows are in the call, nor on the number
// of threads.  Every output channel of every row is one fixed sequence of integer and float operations.  That is what makes
// "verify eight tokens in one pass" return the very bits of eight single passes.
//
// Weights lie in groups of as many output channels as a vector holds (8, or 16 of AVX-512), so that no horizontal sum is
// needed.  Each channel's arithmetic is the same in both widths, and so are its bits.
// Three kinds, all with one scale per 32 inputs of a channel:
//   Q4    value = scale * code + minimum, code in 0..15   (the arithmetic of GGUF's Q4_1), activations as 8-bit integers
//   Q8    value = scale * code,           code in -127..127 (that of Q8_0),                activations as 16-bit integers
//   Head  values as those of Q8, but activations as 8-bit integers: half the work where the processor multiplies bytes, and
//         no further layer passes on what is rounded
#pragma once
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>

#include "vectors.hpp"

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace mz {

enum Kind : int { kQ4 = 4, kQ8 = 8, kHead = 9 };

constexpr int kBlock = 32;                               // inputs that share one scale
constexpr int kTile = 8;                                 // rows multiplied together
constexpr int kQ4Bytes = kWide * (kBlock / 2 + 2 + 2);   // a block of kWide channels: codes, then scales, then minima
constexpr int kQ8Bytes = kWide * (kBlock + 2);           // codes, then scales

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

struct Linear {
  int kind = kQ4;
  int n = 0, k = 0;
  std::shared_ptr<uint8_t> home;
  uint8_t* data = nullptr;
  int groups() const { return (n + kWide - 1) / kWide; }  // the last one may be filled up with zeros
  size_t group_bytes() const { return size_t(k / kBlock) * (kind == kQ4 ? kQ4Bytes : kQ8Bytes); }
};

// Whether codes lie by fours, with 128 added, as the product of unsigned and signed bytes wants them; else by pairs.
inline bool by_fours(int kind) { return MZ_VNNI && kind == kHead; }

// codes: [n][k] (uint8 for Q4, else int8), scale and minimum: [n][k / 32].
inline Linear* pack(int kind, int n, int k, const void* codes, const float* scale, const float* minimum) {
  if (n % kLanes || k % kBlock) return nullptr;
  auto* w = new Linear{kind, n, k, nullptr, nullptr};
  const size_t bytes = w->group_bytes() * w->groups();
  w->home = room(bytes);
  w->data = w->home.get();
  if (!w->data) { delete w; return nullptr; }
  if (n % kWide) std::memset(w->data, 0, bytes);
  const int nb = k / kBlock;
  const auto* u = static_cast<const uint8_t*>(codes);
  for (int g = 0; g < w->groups(); ++g)
    for (int b = 0; b < nb; ++b) {
      uint8_t* out = w->data + g * w->group_bytes() + size_t(b) * (kind == kQ4 ? kQ4Bytes : kQ8Bytes);
      for (int c = 0; c < std::min(kWide, n - g * kWide); ++c) {
        const size_t channel = size_t(g) * kWide + c;
        const uint8_t* row = u + channel * k + b * kBlock;
        if (kind == kQ4) {
          for (int pair = 0; pair < 4; ++pair) {  // four inputs in the low halves of a word, the next four in the high
            uint32_t low, high;
            std::memcpy(&low, row + 8 * pair, 4);
            std::memcpy(&high, row + 8 * pair + 4, 4);
            low |= high << 4;
            std::memcpy(out + (pair * kWide + c) * 4, &low, 4);
          }
        } else if (by_fours(kind)) {
          for (int four = 0; four < 8; ++four) {
            uint32_t word;
            std::memcpy(&word, row + 4 * four, 4);
            word ^= 0x80808080u;
            std::memcpy(out + (four * kWide + c) * 4, &word, 4);
          }
        } else {
          for (int pair = 0; pair < 16; ++pair) std::memcpy(out + (pair * kWide + c) * 2, row + 2 * pair, 2);
        }
        auto* half = reinterpret_cast<uint16_t*>(out + kWide * (kind == kQ4 ? kBlock / 2 : kBlock));
        half[c] = to_half(scale[channel * nb + b]);
        if (kind == kQ4) half[kWide + c] = to_half(minimum[channel * nb + b]);
      }
    }
  return w;
}

// One row of an eight-bit matrix as floats: the embedding of a token, read from the matrix that is also the output head.
inline void unpack_row(const Linear& w, int row, float* out) {
  const uint8_t* group = w.data + size_t(row / kWide) * w.group_bytes();
  const int c = row % kWide;
  for (int b = 0; b < w.k / kBlock; ++b) {
    const uint8_t* p = group + size_t(b) * kQ8Bytes;
    float s = _cvtsh_ss(reinterpret_cast<const uint16_t*>(p + kWide * kBlock)[c]);
    const int together = by_fours(w.kind) ? 4 : 2, shift = by_fours(w.kind) ? 0x80 : 0;
    for (int i = 0; i < kBlock; ++i)
      out[b * kBlock + i] = s * float(int8_t(p[((i / together) * kWide + c) * together + i % together] ^ shift));
  }
}

// Activations in the integer form that the products read, in tiles of eight rows: [tile][block][row in tile][32].
struct Quantised {
  int8_t* q8 = nullptr;
  int16_t* q16 = nullptr;
  float* scale = nullptr;  // [tile][block][row in tile]
  float* sum = nullptr;    // the same, of the unquantised values
  int32_t* start = nullptr;  // the same: takes back from a product what codes have too much by the 128 added to them
  int k = 0;
  void reserve(int rows, int width) {
    k = width;
    const size_t cells = size_t(rows + kTile - 1) / kTile * kTile * k;
    q8 = static_cast<int8_t*>(allocate(cells));
    q16 = static_cast<int16_t*>(allocate(cells * 2));
    scale = static_cast<float*>(allocate(cells / kBlock * 4));
    sum = static_cast<float*>(allocate(cells / kBlock * 4));
    start = static_cast<int32_t*>(allocate(cells / kBlock * 4));
  }
  void release() { std::free(q8); std::free(q16); std::free(scale); std::free(sum); std::free(start); }
  size_t cell(int m, int b) const { return (size_t(m / kTile) * (k / kBlock) + b) * kTile + m % kTile; }
};

// x: 32 floats of block b of row m.
inline void quantise_block(const Quantised& to, int kind, int m, int b, const float* x) {
  const __m256 sign = _mm256_set1_ps(-0.0f);
  __m256 v[4], top = _mm256_setzero_ps(), total = _mm256_setzero_ps();
  for (int i = 0; i < 4; ++i) {
    v[i] = _mm256_loadu_ps(x + 8 * i);
    top = _mm256_max_ps(top, _mm256_andnot_ps(sign, v[i]));
    total = _mm256_add_ps(total, v[i]);
  }
  const float limit = kind == kQ8 ? 32767.0f : 127.0f, amax = most_of(top);
  const size_t at = to.cell(m, b);
  to.scale[at] = amax / limit;
  to.sum[at] = sum_of(total);
  const __m256 inverse = _mm256_set1_ps(amax > 0 ? limit / amax : 0.0f);
  __m256i r[4];
  for (int i = 0; i < 4; ++i) r[i] = _mm256_cvtps_epi32(_mm256_mul_ps(v[i], inverse));
  const __m256i lo = _mm256_permute4x64_epi64(_mm256_packs_epi32(r[0], r[1]), 0xd8);
  const __m256i hi = _mm256_permute4x64_epi64(_mm256_packs_epi32(r[2], r[3]), 0xd8);
  if (by_fours(kind)) {
    const __m256i total = _mm256_add_epi32(_mm256_add_epi32(r[0], r[1]), _mm256_add_epi32(r[2], r[3]));
    to.start[at] = -128 * sum_of(total);
  }
  if (kind == kQ4 || by_fours(kind)) {
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

// y = x / rms(x) * weight (RMSNorm, arXiv 1910.07467 eq. 4); without a weight where there is none.  d: a multiple of 8.
inline void rms_norm(const float* x, const float* weight, int d, float eps, float* y) {
  __m256 s[4] = {_mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps()};
  for (int i = 0; i < d; i += kLanes) {
    const __m256 v = _mm256_loadu_ps(x + i);
    __m256& sum = s[i / kLanes % 4];  // several sums, as each waits for its last addition
    sum = _mm256_fmadd_ps(v, v, sum);
  }
  const __m256 sum = _mm256_add_ps(_mm256_add_ps(s[0], s[1]), _mm256_add_ps(s[2], s[3]));
  const __m256 r = _mm256_set1_ps(1.0f / std::sqrt(sum_of(sum) / float(d) + eps));
  for (int i = 0; i < d; i += kLanes) {
    const __m256 v = _mm256_mul_ps(_mm256_loadu_ps(x + i), r);
    _mm256_storeu_ps(y + i, weight ? _mm256_mul_ps(v, _mm256_loadu_ps(weight + i)) : v);
  }
}

}  // namespace mz
