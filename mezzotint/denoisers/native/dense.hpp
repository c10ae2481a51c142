// Products of float32 matrices, laid out once for the processor's vectors, and attention made of them.
//
// Rule of this file: every output of a row is one fixed sequence of operations, however many rows or threads there are.
// So what a text says does not depend on what else is in its batch.
#pragma once
#include "kernels.hpp"
#include "pool.hpp"

namespace mz::dense {

constexpr int kVectors = 3;             // of output channels side by side: with 4 rows, twelve sums in sixteen registers,
constexpr int kRows = MZ_WIDE ? 8 : 4;  // rows multiplied together: with 8, 24 sums in AVX-512's 32
constexpr int kPanel = kVectors * kWide;
constexpr int kDeep = MZ_WIDE ? 128 : 256;  // inputs of a panel that stay in the first cache while all rows pass
constexpr int kBand = 192;   // rows that stay in the second cache while all panels pass
constexpr int kQueries = 64;  // queries whose scores are held together

struct Matrix {
  int n = 0, k = 0;
  float* data = nullptr;  // panel by panel, [k][kPanel], the last one padded with zeros
  ~Matrix() { std::free(data); }
};

inline int panels(int n) { return (n + kPanel - 1) / kPanel; }

// Eight rows of eight numbers, `stride` apart, into eight columns of a panel.
inline void turn_over(const float* w, size_t stride, float* out) {
  __m256 r[8], t[8];
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) r[i] = _mm256_loadu_ps(w + i * stride);
#pragma GCC unroll 4
  for (int i = 0; i < 8; i += 2) t[i] = _mm256_unpacklo_ps(r[i], r[i + 1]), t[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
#pragma GCC unroll 2
  for (int i = 0; i < 8; i += 4) {
    r[i] = _mm256_shuffle_ps(t[i], t[i + 2], 0x44), r[i + 1] = _mm256_shuffle_ps(t[i], t[i + 2], 0xee);
    r[i + 2] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0x44), r[i + 3] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0xee);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    _mm256_storeu_ps(out + i * kPanel, _mm256_permute2f128_ps(r[i], r[i + 4], 0x20));
    _mm256_storeu_ps(out + (i + 4) * kPanel, _mm256_permute2f128_ps(r[i], r[i + 4], 0x31));
  }
}

// w: [n] rows of `stride` numbers, of which k count, a multiple of 8.
inline void lay_out(const float* w, int n, int k, size_t stride, float* out) {
  for (int j = 0; j < n; j += 8) {
    float* to = out + size_t(j / kPanel) * kPanel * k + j % kPanel;
    const float* from = w + j * stride;
    float few[8 * 8] = {};
    for (int i = 0; i < k; i += 8) {
      if (j + 8 <= n) {
        turn_over(from + i, stride, to + size_t(i) * kPanel);
        continue;
      }
      for (int c = 0; c < n - j; ++c) std::memcpy(few + 8 * c, from + c * stride + i, sizeof(float) * 8);
      turn_over(few, 8, to + size_t(i) * kPanel);
    }
  }
  for (int j = (n + 7) / 8 * 8; j % kPanel; j += 8)  // what fills the last panel
    for (int i = 0; i < k; ++i) std::memset(out + (size_t(j / kPanel) * k + i) * kPanel + j % kPanel, 0, sizeof(float) * 8);
}

template <class V>
inline V loaded(const float* p);
template <>
inline __m256 loaded<__m256>(const float* p) { return _mm256_loadu_ps(p); }
inline void stored(float* p, __m256 v) { _mm256_storeu_ps(p, v); }
#if MZ_WIDE
template <>
inline __m512 loaded<__m512>(const float* p) { return _mm512_loadu_ps(p); }
inline void stored(float* p, __m512 v) { _mm512_storeu_ps(p, v); }
#endif

// What to ask memory for while a tile is made: `lines` of 64 bytes at every input whose number has none of `often`'s bits.
struct Ahead {
  const char* at;
  int often, lines;
};

// out[m][c] = start[m][c] + sum over i of x[m][i] b[i][c], for M rows and C vectors of channels c.
template <class V, int M, int C>
inline void tile(const float* x, size_t xs, const float* b, size_t bs, int k, const float* start, size_t ss, float* out,
                 size_t os, Ahead ahead) {
  constexpr int kNumbers = sizeof(V) / sizeof(float);
  V sum[M][C];
#pragma GCC unroll 8
  for (int m = 0; m < M; ++m)
#pragma GCC unroll 3
    for (int c = 0; c < C; ++c) sum[m][c] = start ? loaded<V>(start + m * ss + kNumbers * c) : all<V>(0);
  for (int i = 0; i < k; ++i, b += bs) {
    V v[C];
#pragma GCC unroll 3
    for (int c = 0; c < C; ++c) {
      v[c] = loaded<V>(b + kNumbers * c);
      asm("" : "+v"(v[c]));  // or the compiler loads it again for every row
    }
#pragma GCC unroll 8
    for (int m = 0; m < M; ++m) {
      const V a = all<V>(x[m * xs + i]);
#pragma GCC unroll 3
      for (int c = 0; c < C; ++c) sum[m][c] = mul_add(a, v[c], sum[m][c]);
    }
    if ((i & ahead.often) == 0)
      for (int j = 0; j < ahead.lines; ++j) _mm_prefetch(ahead.at, _MM_HINT_T1), ahead.at += 64;
  }
#pragma GCC unroll 8
  for (int m = 0; m < M; ++m)
#pragma GCC unroll 3
    for (int c = 0; c < C; ++c) stored(out + m * os + kNumbers * c, sum[m][c]);
}

struct Operand {
  const float* at;
  size_t stride;
};

template <class V, int C>
inline void strip(Operand x, int rows, Operand b, int k, Operand start, float* out, size_t os) {
  // the next panel, a piece per tile: fewer rows have fewer tiles, and ask for more in each
  const int tiles = (rows + kRows - 1) / kRows;
  Ahead ahead{reinterpret_cast<const char*>(b.at + size_t(k) * b.stride), 0, 1};
  if (MZ_WIDE) ahead.lines = tiles < 2 ? 3 : tiles < 3 ? 2 : 1, ahead.often = tiles > 11 ? 3 : tiles > 5 ? 1 : 0;
  else ahead.often = tiles > 6 ? 3 : tiles > 3 ? 1 : 0;
  const auto go = [&]<int M>(int m) {
    tile<V, M, C>(x.at + m * x.stride, x.stride, b.at, b.stride, k, start.at ? start.at + m * start.stride : nullptr,
                  start.stride, out + m * os, os, ahead);
    ahead.at += size_t(64) * ahead.lines * ((k + ahead.often) / (ahead.often + 1));
  };
  int m = 0;
  for (; m + kRows <= rows; m += kRows) go.template operator()<kRows>(m);
  switch (rows - m) {
    case 1: go.template operator()<1>(m); break;
    case 2: go.template operator()<2>(m); break;
    case 3: go.template operator()<3>(m); break;
#if MZ_WIDE
    case 4: go.template operator()<4>(m); break;
    case 5: go.template operator()<5>(m); break;
    case 6: go.template operator()<6>(m); break;
    case 7: go.template operator()<7>(m); break;
#endif
    default: break;
  }
}

// One panel of `channels` (a multiple of 8, at most kPanel), for all rows.
inline void panel(Operand x, int rows, Operand b, int k, int channels, Operand start, float* out, size_t os) {
  for (int i = 0; i < k; i += kDeep) {
    const Operand xi{x.at + i, x.stride}, bi{b.at + size_t(i) * b.stride, b.stride};
    const int deep = std::min(kDeep, k - i);
    const Operand from = i ? Operand{out, os} : start;
    const int vectors = channels / kWide, done = vectors * kWide;
    if (vectors == 3) strip<Floats, 3>(xi, rows, bi, deep, from, out, os);
    if (vectors == 2) strip<Floats, 2>(xi, rows, bi, deep, from, out, os);
    if (vectors == 1) strip<Floats, 1>(xi, rows, bi, deep, from, out, os);
    if (done < channels)  // half a vector
      strip<__m256, 1>(xi, rows, {bi.at + done, bi.stride}, deep, {from.at ? from.at + done : nullptr, from.stride}, out + done, os);
  }
}

// body(i) for 0 <= i < n, shared out in pieces of `piece`.
template <class Body>
inline void each(Pool& pool, int n, int piece, Body body) {
  if (pool.size() == 1 || n <= piece) {
    for (int i = 0; i < n; ++i) body(i);
    return;
  }
  std::atomic<int> next{0};
  pool.run([&](int) {
    for (int i0; (i0 = next.fetch_add(piece, std::memory_order_relaxed)) < n;)
      for (int i = i0; i < std::min(n, i0 + piece); ++i) body(i);
  });
}

// out[m] = start[m] + W x[m]; start may be out itself, or a bias (stride 0).
inline void product(Pool& pool, Operand x, int rows, const Matrix& w, Operand start, float* out) {
  const size_t n = w.n;
  for (int r = 0; r < rows; r += kBand) {
    const int band = std::min(kBand, rows - r);
    const Operand xr{x.at + r * x.stride, x.stride};
    each(pool, panels(w.n), 4, [&](int p) {
      const int j = p * kPanel, channels = std::min(kPanel, w.n - j);
      const Operand b{w.data + size_t(j) * w.k, kPanel};
      float* to = out + r * n + j;
      if (channels % 8 == 0) {
        const Operand from{start.at ? start.at + r * start.stride + j : nullptr, start.stride};
        panel(xr, band, b, w.k, channels, from, to, n);
        return;
      }
      float whole[kBand * kPanel];  // only the last channels of a head are not a whole number of vectors
      panel(xr, band, b, w.k, kPanel, {nullptr, 0}, whole, kPanel);
      for (int m = 0; m < band; ++m) std::memcpy(to + m * n, whole + m * kPanel, sizeof(float) * channels);
    });
  }
}

// Scores [rows][padded] to exponentials behind the largest, in place; returns 1 / their sum in `scale`.
inline void softmax(float* s, int keys, int padded, const uint8_t* seen, float factor, float* scale) {
  if (seen)
    for (int i = 0; i < keys; ++i) s[i] = seen[i] ? s[i] : -INFINITY;
  for (int i = keys; i < padded; ++i) s[i] = -INFINITY;
  __m256 top = _mm256_set1_ps(-INFINITY), sum = _mm256_setzero_ps();
  for (int i = 0; i < padded; i += 8) top = _mm256_max_ps(top, _mm256_loadu_ps(s + i));
  const float most = most_of(top);
  if (most == -INFINITY) {  // a row that sees nothing says nothing
    std::memset(s, 0, sizeof(float) * padded);
    *scale = 0;
    return;
  }
  const __m256 shift = _mm256_set1_ps(most), by = _mm256_set1_ps(factor), never = _mm256_set1_ps(-INFINITY);
  for (int i = 0; i < padded; i += 8) {
    const __m256 v = _mm256_loadu_ps(s + i);
    const __m256 e = exp_of(_mm256_mul_ps(_mm256_sub_ps(v, shift), by));
    const __m256 kept = _mm256_and_ps(e, _mm256_cmp_ps(v, never, _CMP_GT_OQ));
    _mm256_storeu_ps(s + i, kept);
    sum = _mm256_add_ps(sum, kept);
  }
  *scale = 1.0f / sum_of(sum);
}

// The first of the largest of x[0 .. n), and its probability.  Piece by piece, so that every number comes from memory once.
inline void best(const float* x, int n, int64_t* at, float* probability) {
  constexpr int kPiece = 2048;
  float highest = -INFINITY, all_odds = 0;
  int piece = 0;
  for (int i0 = 0; i0 < n; i0 += kPiece) {
    const int end = std::min(n, i0 + kPiece), whole = i0 + (end - i0) / 16 * 16;
    __m256 top[2] = {_mm256_set1_ps(-INFINITY), _mm256_set1_ps(-INFINITY)};
    for (int i = i0; i < whole; i += 16)
#pragma GCC unroll 2
      for (int c = 0; c < 2; ++c) top[c] = most(top[c], _mm256_loadu_ps(x + i + 8 * c));
    float here = most_of(most(top[0], top[1]));
    for (int i = whole; i < end; ++i) here = std::max(here, x[i]);
    if (here > highest) {
      all_odds *= std::exp(highest - here);
      highest = here, piece = i0;
    }
    if (highest == -INFINITY) continue;
    const __m256 shift = _mm256_set1_ps(highest);
    __m256 sum[2] = {_mm256_setzero_ps(), _mm256_setzero_ps()};
    for (int i = i0; i < whole; i += 16)
#pragma GCC unroll 2
      for (int c = 0; c < 2; ++c) sum[c] = add(sum[c], exp_of(sub(_mm256_loadu_ps(x + i + 8 * c), shift)));
    float odds = sum_of(add(sum[0], sum[1]));
    for (int i = whole; i < end; ++i) odds += std::exp(x[i] - highest);
    all_odds += odds;
  }
  *at = piece;
  while (*at < n - 1 && x[*at] != highest) ++*at;
  *probability = 1.0f / all_odds;
}

// Attention of `rows` queries over `keys` keys of one head; `keys_laid` are the keys as a matrix's panels.
struct Head {
  const float *keys_laid, *values;
  int keys, dim;
  float factor;
};

inline void attend(const Head& h, Operand q, int rows, const uint8_t* const* seen, float* scores, Operand out_at) {
  const int padded = panels(h.keys) * kPanel;
  float* out = const_cast<float*>(out_at.at);
  for (int r = 0; r < rows; r += kQueries) {
    const int band = std::min(kQueries, rows - r);
    const Operand qr{q.at + r * q.stride, q.stride};
    for (int j = 0; j < padded; j += kPanel)
      panel(qr, band, {h.keys_laid + size_t(j) * h.dim, kPanel}, h.dim, kPanel, {nullptr, 0}, scores + j, padded);
    float scale[kQueries];
    for (int m = 0; m < band; ++m)
      softmax(scores + size_t(m) * padded, h.keys, padded, seen ? seen[r + m] : nullptr, h.factor, scale + m);
    float* to = out + r * out_at.stride;
    for (int c = 0; c < h.dim; c += kPanel)
      panel({scores, size_t(padded)}, band, {h.values + c, size_t(h.dim)}, h.keys, std::min(kPanel, h.dim - c),
            {nullptr, 0}, to + c, out_at.stride);
    for (int m = 0; m < band; ++m)
      for (int c = 0; c < h.dim; c += 8) {
        float* y = to + m * out_at.stride + c;
        _mm256_storeu_ps(y, _mm256_mul_ps(_mm256_loadu_ps(y), _mm256_set1_ps(scale[m])));
      }
  }
}

}  // namespace mz::dense
