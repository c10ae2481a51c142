// Attention of one or two rows over the settled tokens of their lane and over rows of their own pass.
//
// Columns are taken in the order of the sequence, settled ones first, so that a token drafted in this pass and the same
// token settled earlier give the same bits.
#pragma once
#include "kernels.hpp"

namespace mz {

constexpr int kMaxRows = 64;  // one bit each in a row's mask

// Keys and values of one head of one lane, in halves: keys by blocks of kWide columns, [block][dim][kWide], values [column][dim].
struct Store {
  const uint16_t *keys, *values;
  int settled;
  const uint16_t *new_keys, *new_values;  // of the rows of this pass
  int dim;
};

// Scores of N blocks of columns with H queries; out[i * stride] is query i.  Several blocks at a time give the core enough
// independent sums to hide their latency, and several queries share what it takes to read a key.
template <int H, int N>
inline void score_blocks(const uint16_t* keys, const float* q, int d, float scale, float* out, size_t stride) {
  Floats acc[N][H];
  for (int b = 0; b < N; ++b)
    for (int i = 0; i < H; ++i) acc[b][i] = all<Floats>(0);
  for (int j = 0; j < d; ++j) {
    Floats k[N];
    for (int b = 0; b < N; ++b) k[b] = load(keys + (size_t(b) * d + j) * kWide);
    for (int i = 0; i < H; ++i) {
      const Floats x = all<Floats>(q[i * d + j]);
      for (int b = 0; b < N; ++b) acc[b][i] = mul_add(x, k[b], acc[b][i]);
    }
  }
  for (int b = 0; b < N; ++b)
    for (int i = 0; i < H; ++i) store(out + i * stride + b * kWide, mul(acc[b][i], all<Floats>(scale)));
}

// Scores -> unnormalised weights in place; returns their sum.  Always the same partial sums, the same way round.
inline float softmax(float* x, int n) {
  for (int i = n; i % kWide; ++i) x[i] = -INFINITY;
  Floats top = all<Floats>(-INFINITY), total = all<Floats>(0);
  for (int i = 0; i < n; i += kWide) top = most(top, load(x + i));
  const Floats shift = all<Floats>(most_of(top));
  for (int i = 0; i < n; i += kWide) {
    const Floats v = load(x + i), kept = where_above(v, -INFINITY, exp_of(sub(v, shift)));
    store(x + i, kept);
    total = add(total, kept);
  }
  return sum_of(total);
}

template <int H, int C>
inline void add_value(const uint16_t* v, const float* weight, size_t stride, Floats (*acc)[C]) {
  Floats x[C];
  for (int j = 0; j < C; ++j) x[j] = load(v + kWide * j);
  for (int i = 0; i < H; ++i) {
    const Floats p = all<Floats>(weight[i * stride]);
    for (int j = 0; j < C; ++j) acc[i][j] = mul_add(p, x[j], acc[i][j]);
  }
}

// Most vectors for each of H queries, of 4, 3, 2 or 1, whose sums stay in registers beside what they are made from.
constexpr int together(int h) {
  constexpr int registers = MZ_WIDE ? 32 : 16;
  for (int n = 4; n > 1; --n)
    if (h * n + n + 1 <= registers) return n;
  return 1;
}

// Room for the scores of one query over `capacity` tokens.
inline size_t scores_of(int capacity) { return size_t(capacity) + kMaxRows + 2 * kWide; }

// R rows of the same lane, G queries each; row r sees the settled columns from `first` on and those of its pass in sees[r].
// q, out: [R * G][dim]; scores: [R * G][stride].
template <int R, int G>
class Attention {
 public:
  static void run(const Store& s, const float* q, const uint64_t* sees, int first, float* scores, size_t stride, float* out) {
    const int d = s.dim, skip = first % kWide, count = std::max(0, s.settled - first);
    const float scale = 1.0f / std::sqrt(float(d));
    constexpr int kTogether = together(H);
    int b = first / kWide;
    if (count) {
      auto at = [&](int block) { return scores + size_t(block) * kWide - (first - skip); };
      for (; (b + kTogether) * kWide <= s.settled; b += kTogether)
        score_blocks<H, kTogether>(s.keys + size_t(b) * kWide * d, q, d, scale, at(b), stride);
      for (; b * kWide < s.settled; ++b) score_blocks<H, 1>(s.keys + size_t(b) * kWide * d, q, d, scale, at(b), stride);
    }
    int picked[R][kMaxRows], fresh[R];
    float inverse[H];
    for (int r = 0; r < R; ++r) {
      float* seen = scores + size_t(r) * G * stride + skip;
      fresh[r] = score_fresh(s, q + size_t(r) * G * d, sees[r], scale, seen + count, stride, picked[r]);
      for (int g = 0; g < G; ++g) inverse[r * G + g] = 1.0f / softmax(seen + g * stride, count + fresh[r]);
    }
    constexpr int kVectors = together(H) == 3 ? 2 : together(H);  // a head is of 32 channels, or a multiple
    int j = 0;
    for (; j + kVectors * kWide <= d; j += kVectors * kWide)
      mix<kVectors>(s, scores + skip, stride, first, count, picked, fresh, inverse, j, out + j);
    for (; j < d; j += kWide) mix<1>(s, scores + skip, stride, first, count, picked, fresh, inverse, j, out + j);
  }

 private:
  static constexpr int H = R * G;

  // Scores of the columns of this pass that a row sees, side by side; returns how many and which they are.
  static int score_fresh(const Store& s, const float* q, uint64_t sees, float scale, float* out, size_t stride, int* picked) {
    int fresh = 0;
    for (int b = 0; b < kMaxRows / kWide; ++b) {
      const unsigned bits = unsigned(sees >> (b * kWide)) & ((1u << kWide) - 1);
      if (!bits) continue;
      alignas(64) float block[G][kWide];
      score_blocks<G, 1>(s.new_keys + size_t(b) * kWide * s.dim, q, s.dim, scale, block[0], kWide);
      for (int i = 0; i < kWide; ++i)
        if (bits >> i & 1) {
          for (int g = 0; g < G; ++g) out[g * stride + fresh] = block[g][i];
          picked[fresh++] = b * kWide + i;
        }
    }
    return fresh;
  }

  // Channels j .. j + C * kWide of the mixed values.
  template <int C>
  static void mix(const Store& s, const float* weights, size_t stride, int first, int count, const int (*picked)[kMaxRows],
                  const int* fresh, const float* inverse, int j, float* out) {
    Floats acc[H][C];
    for (int i = 0; i < H; ++i)
      for (int c = 0; c < C; ++c) acc[i][c] = all<Floats>(0);
    const uint16_t* v = s.values + size_t(first) * s.dim + j;
    for (int i = 0; i < count; ++i, v += s.dim) add_value<H, C>(v, weights + i, stride, acc);
    for (int r = 0; r < R; ++r)
      for (int i = 0; i < fresh[r]; ++i)
        add_value<G, C>(s.new_values + size_t(picked[r][i]) * s.dim + j, weights + r * G * stride + count + i, stride, acc + r * G);
    for (int i = 0; i < H; ++i)
      for (int c = 0; c < C; ++c) store(out + i * s.dim + c * kWide, mul(acc[i][c], all<Floats>(inverse[i])));
  }
};

}  // namespace mz
