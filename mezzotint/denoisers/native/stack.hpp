// A stack of pre-norm attention/SwiGLU layers with a key/value store, for a few rows at a time.
//
// Each row names its lane (one sequence), its position, and, by a bit mask, which rows of the same call it sees besides the
// settled tokens of its lane.  A causal chain, a tree of candidates and a bidirectional block are all such masks.
#pragma once
#include <vector>

#include "kernels.hpp"
#include "pool.hpp"

namespace mz {

constexpr int kMaxRows = 64;  // one bit each in a row's mask

struct Shape {
  int width, hidden, layers, heads, kv_heads, head_dim, capacity, lanes, window;  // window 0: all settled tokens are seen
  float eps, theta;
};

struct Layer {
  const Linear *qkv, *out, *gate_up, *down;
  const float *attention_norm, *mlp_norm;
};

struct Call {
  int rows;
  const int *position, *lane;
  const uint64_t* sees;
  int taps;
  const int* tap_after;  // residual stream after that many layers
  float* tap_out;        // [rows][taps][width]
};

class Stack {
 public:
  Stack(const Shape& s) : s_(s), layers_(s.layers), length_(s.lanes, 0) {
    blocks_ = (s.capacity + kLanes - 1) / kLanes;
    const size_t cells = size_t(s.layers) * s.lanes * s.kv_heads * blocks_ * kLanes * s.head_dim;
    keys_ = static_cast<uint16_t*>(allocate(cells * 2));
    values_ = static_cast<uint16_t*>(allocate(cells * 2));
    const size_t fresh = size_t(s.layers) * s.kv_heads * kMaxRows * s.head_dim;
    new_keys_ = static_cast<uint16_t*>(allocate(fresh * 2));
    new_values_ = static_cast<uint16_t*>(allocate(fresh * 2));
    std::memset(new_keys_, 0, fresh * 2);  // unused columns of a block of eight are multiplied too: no NaN may lie there
    qkv_width_ = (s.heads + 2 * s.kv_heads) * s.head_dim;
    x_ = floats(kMaxRows * s.width);
    qkv_ = floats(kMaxRows * qkv_width_);
    mixed_ = floats(kMaxRows * s.heads * s.head_dim);
    in_.reserve(kMaxRows, s.width);
    mix_.reserve(kMaxRows, s.heads * s.head_dim);
    mid_.reserve(kMaxRows, s.hidden);
    rotate_ = floats(size_t(s.capacity + kMaxRows) * s.head_dim);
    for (int p = 0; p < s.capacity + kMaxRows; ++p)
      for (int i = 0; i < s.head_dim / 2; ++i) {
        const double angle = p * std::pow(double(s.theta), -2.0 * i / s.head_dim);
        rotate_[size_t(p) * s.head_dim + i] = float(std::cos(angle));
        rotate_[size_t(p) * s.head_dim + s.head_dim / 2 + i] = float(std::sin(angle));
      }
  }
  ~Stack() {
    for (void* p : {(void*)keys_, (void*)values_, (void*)new_keys_, (void*)new_values_, (void*)x_, (void*)qkv_, (void*)mixed_, (void*)rotate_})
      std::free(p);
    in_.release(), mix_.release(), mid_.release();
  }

  Layer& layer(int i) { return layers_[i]; }
  const Shape& shape() const { return s_; }
  float* rows() { return x_; }  // input and, after run(), the residual stream [rows][width]
  int length(int lane) const { return length_[lane]; }
  void truncate(int lane, int length) { length_[lane] = length; }

  void run(Pool& pool, const Call& call) {
    const size_t shares = size_t(s_.layers) * 4 * pool.size();
    if (counters_.size() != shares) counters_ = std::vector<Counter>(shares);
    for (auto& c : counters_) c.next.store(0, std::memory_order_relaxed);
    pool.run([&](int thread) { body(pool, thread, call); });
  }

  // Settle `n` rows of the last call, in order, as the next tokens of a lane.
  void commit(int lane, int n, const int* row) {
    const int d = s_.head_dim;
    for (int l = 0; l < s_.layers; ++l)
      for (int h = 0; h < s_.kv_heads; ++h)
        for (int i = 0; i < n; ++i) {
          const int p = length_[lane] + i;
          const uint16_t* k = new_key(l, h) + size_t(row[i] / kLanes) * kLanes * d + row[i] % kLanes;
          uint16_t* to = key(l, lane, h) + size_t(p / kLanes) * kLanes * d + p % kLanes;
          for (int j = 0; j < d; ++j) to[j * kLanes] = k[j * kLanes];
          std::memcpy(value(l, lane, h) + size_t(p) * d, new_value(l, h) + size_t(row[i]) * d, d * 2);
        }
    length_[lane] += n;
  }

 private:
  struct alignas(64) Counter {
    std::atomic<int> next{0};
    Counter() = default;
    Counter(const Counter&) {}
  };
  static float* floats(size_t n) { return static_cast<float*>(allocate(n * 4)); }
  size_t plane(int l, int lane, int h) const {
    return ((size_t(l) * s_.lanes + lane) * s_.kv_heads + h) * blocks_ * kLanes * s_.head_dim;
  }
  uint16_t* key(int l, int lane, int h) { return keys_ + plane(l, lane, h); }      // [capacity / 8][head_dim][8]
  uint16_t* value(int l, int lane, int h) { return values_ + plane(l, lane, h); }  // [capacity][head_dim]
  uint16_t* new_key(int l, int h) { return new_keys_ + (size_t(l) * s_.kv_heads + h) * kMaxRows * s_.head_dim; }
  uint16_t* new_value(int l, int h) { return new_values_ + (size_t(l) * s_.kv_heads + h) * kMaxRows * s_.head_dim; }

  // Every thread goes through a share of the parts of its own, in order, as memory is fastest in order; then it takes what
  // is left of others' shares, so a thread that the system holds back delays nobody for long.
  template <class Work>
  void share(Counter* c, int thread, int threads, int parts, Work work) {
    for (int i = 0; i < threads; ++i) {
      const int of = (thread + i) % threads, first = parts * of / threads, count = parts * (of + 1) / threads - first;
      for (int part; (part = c[of].next.fetch_add(1, std::memory_order_relaxed)) < count;) work(first + part);
    }
  }

  void body(Pool& pool, int thread, const Call& call) {
    const int threads = pool.size(), M = call.rows, d = s_.width;
    std::vector<float> scratch(std::max({d, s_.hidden, s_.heads / s_.kv_heads * (s_.capacity + kMaxRows + 2 * kLanes)}));
    auto norm_rows = [&](const float* weight, int kind) {
      for (int m = thread; m < M; m += threads) {
        rms_norm(x_ + size_t(m) * d, weight, d, s_.eps, scratch.data());
        quantise_row(in_, kind, m, scratch.data());
      }
    };
    auto add_product = [&](Counter* c, const Linear& w, const Quantised& from) {
      share(c, thread, threads, w.n / 32, [&](int part) {
        for (int g = 4 * part; g < 4 * part + 4; ++g)
          multiply_group(w, g, from, M, [&](int m, __m256 y) {
            float* to = x_ + size_t(m) * d + g * kLanes;
            _mm256_storeu_ps(to, _mm256_add_ps(_mm256_loadu_ps(to), y));
          });
      });
    };
    for (int l = 0; l < s_.layers; ++l) {
      const Layer& w = layers_[l];
      Counter* c = &counters_[size_t(l) * 4 * threads];
      norm_rows(w.attention_norm, w.qkv->kind);
      pool.barrier();
      share(c, thread, threads, w.qkv->n / 32, [&](int part) {
        for (int g = 4 * part; g < 4 * part + 4; ++g)
          multiply_group(*w.qkv, g, in_, M, [&](int m, __m256 y) { _mm256_storeu_ps(qkv_ + size_t(m) * qkv_width_ + g * kLanes, y); });
      });
      pool.barrier();
      for (int m = thread; m < M; m += threads) rotate_and_store(l, m, call.position[m]);
      pool.barrier();
      for (int item = thread; item < M * s_.kv_heads; item += threads) attend(l, item / s_.kv_heads, item % s_.kv_heads, call, scratch.data());
      pool.barrier();
      for (int m = thread; m < M; m += threads) quantise_row(mix_, w.out->kind, m, mixed_ + size_t(m) * s_.heads * s_.head_dim);
      pool.barrier();
      add_product(c + threads, *w.out, mix_);
      pool.barrier();
      norm_rows(w.mlp_norm, w.gate_up->kind);
      pool.barrier();
      share(c + 2 * threads, thread, threads, s_.hidden / kBlock, [&](int part) { gated_block(*w.gate_up, w.down->kind, part, M); });
      pool.barrier();
      add_product(c + 3 * threads, *w.down, mid_);
      pool.barrier();
      for (int t = 0; t < call.taps; ++t)
        if (call.tap_after[t] == l + 1)
          for (int m = thread; m < M; m += threads) std::memcpy(call.tap_out + (size_t(m) * call.taps + t) * d, x_ + size_t(m) * d, d * 4);
    }
  }

  // 32 channels of silu(gate) * up, made and quantised by the same thread: rows 64 part .. 64 part + 31 of the matrix are
  // the gate, the next 32 are up.
  void gated_block(const Linear& w, int down_kind, int part, int M) {
    alignas(32) float gate[kMaxRows][kBlock];
    for (int g = 0; g < 4; ++g)
      multiply_group(w, 8 * part + g, in_, M, [&](int m, __m256 y) { _mm256_store_ps(gate[m] + g * kLanes, silu8(y)); });
    for (int g = 0; g < 4; ++g)
      multiply_group(w, 8 * part + 4 + g, in_, M, [&](int m, __m256 y) {
        float* to = gate[m] + g * kLanes;
        _mm256_store_ps(to, _mm256_mul_ps(_mm256_load_ps(to), y));
      });
    for (int m = 0; m < M; ++m) quantise_block(mid_, down_kind, m, part, gate[m]);
  }

  // Rotary embedding (arXiv 2104.09864), halves convention, on queries and keys; keys and values go to the fresh store.
  void rotate_and_store(int l, int m, int position) {
    const int d = s_.head_dim, half = d / 2;
    const float *cosine = rotate_ + size_t(position) * d, *sine = cosine + half;
    float* row = qkv_ + size_t(m) * qkv_width_;
    for (int h = 0; h < s_.heads + s_.kv_heads; ++h) {
      float *a = row + h * d, *b = a + half;
      for (int i = 0; i < half; i += 8) {
        const __m256 u = _mm256_loadu_ps(a + i), v = _mm256_loadu_ps(b + i), c = _mm256_loadu_ps(cosine + i), s = _mm256_loadu_ps(sine + i);
        _mm256_storeu_ps(a + i, _mm256_fnmadd_ps(v, s, _mm256_mul_ps(u, c)));
        _mm256_storeu_ps(b + i, _mm256_fmadd_ps(u, s, _mm256_mul_ps(v, c)));
      }
    }
    for (int h = 0; h < s_.kv_heads; ++h) {
      const float *k = row + (s_.heads + h) * d, *v = row + (s_.heads + s_.kv_heads + h) * d;
      uint16_t* to = new_key(l, h) + size_t(m / kLanes) * kLanes * d + m % kLanes;
      for (int j = 0; j < d; j += 8) {
        alignas(16) uint16_t packed[8];
        _mm_store_si128(reinterpret_cast<__m128i*>(packed), _mm256_cvtps_ph(_mm256_loadu_ps(k + j), 0));
        for (int i = 0; i < 8; ++i) to[(j + i) * kLanes] = packed[i];
        _mm_storeu_si128(reinterpret_cast<__m128i*>(new_value(l, h) + size_t(m) * d + j), _mm256_cvtps_ph(_mm256_loadu_ps(v + j), 0));
      }
    }
  }

  // Scores of N blocks of eight columns with the queries of one group of heads; out[i * stride] is head i.  Several blocks
  // at a time give the core enough independent sums to hide their latency; each sum is the same for every N.
  template <int G, int N>
  static void score_blocks(const uint16_t* keys, const float* q, int d, float scale, float* out, size_t stride) {
    __m256 acc[N][G];
    for (int b = 0; b < N; ++b)
      for (int i = 0; i < G; ++i) acc[b][i] = _mm256_setzero_ps();
    for (int j = 0; j < d; ++j) {
      __m256 k[N];
      for (int b = 0; b < N; ++b) k[b] = load_half(keys + (size_t(b) * d + j) * kLanes);
      for (int i = 0; i < G; ++i) {
        const __m256 x = _mm256_set1_ps(q[i * d + j]);
        for (int b = 0; b < N; ++b) acc[b][i] = _mm256_fmadd_ps(x, k[b], acc[b][i]);
      }
    }
    for (int b = 0; b < N; ++b)
      for (int i = 0; i < G; ++i) _mm256_storeu_ps(out + i * stride + b * kLanes, _mm256_mul_ps(acc[b][i], _mm256_set1_ps(scale)));
  }

  void attend(int l, int m, int h, const Call& call, float* scores) {
    switch (s_.heads / s_.kv_heads) {
      case 1: return attend_group<1>(l, m, h, call, scores);
      case 2: return attend_group<2>(l, m, h, call, scores);
      case 3: return attend_group<3>(l, m, h, call, scores);
      case 4: return attend_group<4>(l, m, h, call, scores);
      default: return attend_group<8>(l, m, h, call, scores);
    }
  }

  // Attention of row m, all query heads of key/value head h.  Columns are taken in the order of the sequence, settled ones
  // first, so that a token drafted in this call and the same token settled earlier give the same bits.
  template <int G>
  void attend_group(int l, int m, int h, const Call& call, float* scores) {
    const int d = s_.head_dim, lane = call.lane[m], settled = length_[lane];
    const int first = s_.window ? std::max(0, call.position[m] + 1 - s_.window) : 0, skip = first % kLanes;
    const size_t stride = s_.capacity + kMaxRows + 2 * kLanes;
    const float* q = qkv_ + size_t(m) * qkv_width_ + size_t(h) * G * d;
    const float scale = 1.0f / std::sqrt(float(d));
    const uint16_t* keys = key(l, lane, h);
    int count = 0;
    if (settled > first) {
      constexpr int kTogether = G <= 4 ? 3 : 1;  // 12 sums fit the registers
      int b = first / kLanes;
      auto at = [&](int block) { return scores + size_t(block) * kLanes - (first - skip); };
      for (; (b + kTogether) * kLanes <= settled; b += kTogether)
        score_blocks<G, kTogether>(keys + size_t(b) * kLanes * d, q, d, scale, at(b), stride);
      for (; b * kLanes < settled; ++b) score_blocks<G, 1>(keys + size_t(b) * kLanes * d, q, d, scale, at(b), stride);
      count = settled - first;
    }
    float* seen = scores + skip;
    int picked[kMaxRows], fresh = 0;
    const uint64_t sees = call.sees[m];
    for (int b = 0; b < kMaxRows / kLanes; ++b) {
      const int bits = int(sees >> (b * kLanes)) & 255;
      if (!bits) continue;
      alignas(32) float block[G][kLanes];
      score_blocks<G, 1>(new_key(l, h) + size_t(b) * kLanes * d, q, d, scale, block[0], kLanes);
      for (int i = 0; i < kLanes; ++i)
        if (bits >> i & 1) {
          for (int g = 0; g < G; ++g) seen[g * stride + count + fresh] = block[g][i];
          picked[fresh++] = b * kLanes + i;
        }
    }
    const int total = count + fresh;
    float inverse[G];
    for (int g = 0; g < G; ++g) inverse[g] = 1.0f / softmax(seen + g * stride, total);
    float* to = mixed_ + size_t(m) * s_.heads * d + size_t(h) * G * d;
    constexpr int C = G <= 2 ? 4 : G <= 4 ? 2 : 1;  // vectors of channels whose G sums stay in registers
    for (int j0 = 0; j0 < d; j0 += 8 * C) {
      __m256 acc[G][C];
      for (int g = 0; g < G; ++g)
        for (int j = 0; j < C; ++j) acc[g][j] = _mm256_setzero_ps();
      const uint16_t* v = value(l, lane, h) + size_t(first) * d + j0;
      for (int i = 0; i < count; ++i, v += d) add_value<G, C>(v, seen + i, stride, acc);
      for (int i = 0; i < fresh; ++i) add_value<G, C>(new_value(l, h) + size_t(picked[i]) * d + j0, seen + count + i, stride, acc);
      for (int g = 0; g < G; ++g)
        for (int j = 0; j < C; ++j) _mm256_storeu_ps(to + g * d + j0 + 8 * j, _mm256_mul_ps(acc[g][j], _mm256_set1_ps(inverse[g])));
    }
  }

  template <int G, int C>
  static inline void add_value(const uint16_t* v, const float* weight, size_t stride, __m256 (&acc)[G][C]) {
    __m256 x[C];
    for (int j = 0; j < C; ++j) x[j] = load_half(v + 8 * j);
    for (int g = 0; g < G; ++g) {
      const __m256 p = _mm256_set1_ps(weight[g * stride]);
      for (int j = 0; j < C; ++j) acc[g][j] = _mm256_fmadd_ps(p, x[j], acc[g][j]);
    }
  }

  // Scores -> unnormalised weights in place; returns their sum.  Eight partial sums, always the same way round.
  static float softmax(float* x, int n) {
    for (int i = n; i % kLanes; ++i) x[i] = -INFINITY;
    __m256 top = _mm256_set1_ps(-INFINITY), total = _mm256_setzero_ps();
    for (int i = 0; i < n; i += kLanes) top = _mm256_max_ps(top, _mm256_loadu_ps(x + i));
    const __m256 shift = _mm256_set1_ps(max8(top));
    for (int i = 0; i < n; i += kLanes) {
      const __m256 e = exp8(_mm256_sub_ps(_mm256_loadu_ps(x + i), shift));
      const __m256 kept = _mm256_and_ps(e, _mm256_cmp_ps(_mm256_loadu_ps(x + i), _mm256_set1_ps(-INFINITY), _CMP_GT_OQ));
      _mm256_storeu_ps(x + i, kept);
      total = _mm256_add_ps(total, kept);
    }
    return sum8(total);
  }

  Shape s_;
  std::vector<Layer> layers_;
  std::vector<int> length_;
  std::vector<Counter> counters_;
  int blocks_ = 0, qkv_width_ = 0;
  uint16_t *keys_, *values_, *new_keys_, *new_values_;
  float *x_, *qkv_, *mixed_, *rotate_;
  Quantised in_, mix_, mid_;
};

}  // namespace mz
