// A stack of pre-norm attention/SwiGLU layers with a key/value store, for a few rows at a time.
//
// Each row names its lane (one sequence), its position, and, by a bit mask, which rows of the same call it sees besides the
// settled tokens of its lane.  A causal chain, a tree of candidates and a bidirectional block are all such masks.
#pragma once
#include <vector>

#include "attention.hpp"
#include "groups.hpp"
#include "pool.hpp"

namespace mz {

constexpr int kMaxHead = 512;  // most channels of a head

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

// A row of the last call, and the column of a lane that it becomes.
struct Settling {
  int lane, at, row;
};

class Stack {
 public:
  Stack(const Shape& s) : s_(s), layers_(s.layers), length_(s.lanes, 0) {
    blocks_ = (s.capacity + kWide - 1) / kWide;
    const size_t cells = size_t(s.layers) * s.lanes * s.kv_heads * blocks_ * kWide * s.head_dim;
    keys_ = static_cast<uint16_t*>(allocate(cells * 2));
    values_ = static_cast<uint16_t*>(allocate(cells * 2));
    const size_t fresh = size_t(s.layers) * s.kv_heads * kMaxRows * s.head_dim;
    new_keys_ = static_cast<uint16_t*>(allocate(fresh * 2));
    new_values_ = static_cast<uint16_t*>(allocate(fresh * 2));
    std::memset(new_keys_, 0, fresh * 2);  // unused columns of a block are multiplied too: no NaN may lie there
    qkv_width_ = (s.heads + 2 * s.kv_heads) * s.head_dim;
    x_ = floats(kMaxRows * s.width);
    qkv_ = floats(kMaxRows * qkv_width_);
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
    for (void* p : {(void*)keys_, (void*)values_, (void*)new_keys_, (void*)new_values_, (void*)x_, (void*)qkv_, (void*)rotate_})
      std::free(p);
    in_.release(), mix_.release(), mid_.release();
  }

  Layer& layer(int i) { return layers_[i]; }
  const Shape& shape() const { return s_; }
  float* rows() { return x_; }  // input and, after run(), the residual stream [rows][width]
  int length(int lane) const { return length_[lane]; }
  void truncate(int lane, int length) {
    length_[lane] = length;
    std::erase_if(settling_, [&](const Settling& s) { return s.lane == lane && s.at >= length; });
  }

  void run(Pool& pool, const Call& call) {
    const size_t shares = size_t(s_.layers) * 4 * pool.size(), queries = 2 * s_.heads / s_.kv_heads;
    if (int(scratch_.size()) < pool.size())
      scratch_.assign(pool.size(), std::vector<float>(std::max(queries * (2 * s_.head_dim + scores_of(s_.capacity)), size_t(s_.width))));
    if (counters_.size() != shares) counters_ = std::vector<Counter>(shares);
    for (auto& c : counters_) c.next.store(0, std::memory_order_relaxed);
    pool.run([&](int thread) { body(pool, thread, call); });
    settling_.clear();
    fresh_ = call.rows;
  }

  // Settle `n` rows of the last call, in order, as the next tokens of a lane.  Each layer copies them when the next call
  // comes to it: then all threads do, and what they copy is wanted at once.
  void commit(int lane, int n, const int* row) {
    for (int i = 0; i < n; ++i) settling_.push_back({lane, length_[lane]++, row[i]});
  }

 private:
  struct alignas(64) Counter {
    std::atomic<int> next{0};
    Counter() = default;
    Counter(const Counter&) {}
  };
  static float* floats(size_t n) { return static_cast<float*>(allocate(n * 4)); }
  size_t plane(int l, int lane, int h) const {
    return ((size_t(l) * s_.lanes + lane) * s_.kv_heads + h) * blocks_ * kWide * s_.head_dim;
  }
  uint16_t* key(int l, int lane, int h) { return keys_ + plane(l, lane, h); }      // [capacity / kWide][head_dim][kWide]
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
    float* scratch = scratch_[thread].data();
    auto norm_rows = [&](const float* weight, int kind) {
      for (int m = thread; m < M; m += threads) {
        rms_norm(x_ + size_t(m) * d, weight, d, s_.eps, scratch);
        quantise_row(in_, kind, m, scratch);
      }
    };
    auto add_product = [&](Counter* c, const Linear& w, const Quantised& from) {
      share(c, thread, threads, w.n / 32, [&](int part) {
        multiply(w, 32 * part, 32 * part + 32, from, M, [&](int m, int channel, Floats y) {
          float* to = x_ + size_t(m) * d + channel;
          store(to, add(load(to), y));
        });
      });
    };
    for (int l = 0; l < s_.layers; ++l) {
      const Layer& w = layers_[l];
      Counter* c = &counters_[size_t(l) * 4 * threads];
      norm_rows(w.attention_norm, w.qkv->kind);
      pool.barrier();
      share(c, thread, threads, w.qkv->n / 32, [&](int part) {
        multiply(*w.qkv, 32 * part, 32 * part + 32, in_, M,
                 [&](int m, int channel, Floats y) { store(qkv_ + size_t(m) * qkv_width_ + channel, y); });
      });
      pool.barrier();
      keep_fresh(l, thread, threads, call);
      pool.barrier();
      attend(l, thread, threads, call, w.out->kind, scratch);
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
    alignas(64) float gate[kMaxRows][kBlock];
    const int first = 2 * kBlock * part, middle = first + kBlock;
    multiply(w, first, middle, in_, M, [&](int m, int channel, Floats y) { store(gate[m] + channel - first, silu_of(y)); });
    multiply(w, middle, middle + kBlock, in_, M, [&](int m, int channel, Floats y) {
      float* to = gate[m] + channel - middle;
      store(to, mul(load(to), y));
    });
    for (int m = 0; m < M; ++m) quantise_block(mid_, down_kind, m, part, gate[m]);
  }

  // Rotary embedding (arXiv 2104.09864), halves convention, of `heads` heads of a row.
  void rotate(const float* from, int heads, int position, float* to) const {
    const int d = s_.head_dim, half = d / 2;
    const float *cosine = rotate_ + size_t(position) * d, *sine = cosine + half;
    for (int h = 0; h < heads; ++h, from += d, to += d)
      for (int i = 0; i < half; i += kWide) {
        const Floats u = load(from + i), v = load(from + half + i), c = load(cosine + i), s = load(sine + i);
        store(to + i, sub_mul(mul(u, c), v, s));
        store(to + half + i, mul_add(u, s, mul(v, c)));
      }
  }

  // Rows of the call before that were settled since go to the store; then keys, rotated, and values of all rows take their
  // place.  A block of fresh rows is one thread's alone: they lie side by side in memory, and two cores writing there would
  // wait for each other.
  void keep_fresh(int l, int thread, int threads, const Call& call) {
    const int d = s_.head_dim, blocks = (std::max(call.rows, fresh_) + kWide - 1) / kWide;
    float turned[kMaxHead];
    alignas(64) uint16_t packed[kMaxHead];
    for (int item = thread; item < blocks * s_.kv_heads; item += threads) {
      const int h = item % s_.kv_heads, first = item / s_.kv_heads * kWide;
      uint16_t* to = new_key(l, h) + size_t(first) * d;
      for (const Settling& s : settling_)
        if (s.row / kWide * kWide == first) {
          const uint16_t* from = to + s.row % kWide;
          uint16_t* k = key(l, s.lane, h) + size_t(s.at / kWide) * kWide * d + s.at % kWide;
          for (int j = 0; j < d; ++j) k[j * kWide] = from[j * kWide];
          std::memcpy(value(l, s.lane, h) + size_t(s.at) * d, new_value(l, h) + size_t(s.row) * d, d * 2);
        }
      for (int m = first; m < std::min(call.rows, first + kWide); ++m, ++to) {
        const float *k = qkv_ + size_t(m) * qkv_width_ + (s_.heads + h) * d, *v = k + s_.kv_heads * d;
        rotate(k, 1, call.position[m], turned);
        for (int j = 0; j < d; j += kWide) {
          store(packed + j, load(turned + j));
          store(new_value(l, h) + size_t(m) * d + j, load(v + j));
        }
        for (int j = 0; j < d; ++j) to[j * kWide] = packed[j];
      }
    }
  }

  void attend(int l, int thread, int threads, const Call& call, int kind, float* scratch) {
    switch (s_.heads / s_.kv_heads) {
      case 1: return attend_rows<1>(l, thread, threads, call, kind, scratch);
      case 2: return attend_rows<2>(l, thread, threads, call, kind, scratch);
      case 3: return attend_rows<3>(l, thread, threads, call, kind, scratch);
      case 4: return attend_rows<4>(l, thread, threads, call, kind, scratch);
      default: return attend_rows<8>(l, thread, threads, call, kind, scratch);
    }
  }

  // Two rows at a time where they see the same settled columns, as they then share the reading of them; a pass of two rows
  // keeps both threads busier one by one.
  template <int G>
  void attend_rows(int l, int thread, int threads, const Call& call, int kind, float* scratch) {
    const auto alike = [&](int m) { return !s_.window && call.lane[m] == call.lane[m + 1]; };
    for (int m = 0, item = 0; m < call.rows;) {
      const int rows = together(2 * G) > 1 && call.rows > 2 && m + 1 < call.rows && alike(m) ? 2 : 1;
      for (int h = 0; h < s_.kv_heads; ++h, ++item)
        if (item % threads == thread) {
          if (rows == 2) attend_group<2, G>(l, m, h, call, kind, scratch);
          else attend_group<1, G>(l, m, h, call, kind, scratch);
        }
      m += rows;
    }
  }

  template <int R, int G>
  void attend_group(int l, int m, int h, const Call& call, int kind, float* scratch) {
    const int d = s_.head_dim, lane = call.lane[m];
    const int first = s_.window ? std::max(0, call.position[m] + 1 - s_.window) : 0;
    const Store store{key(l, lane, h), value(l, lane, h), length_[lane], new_key(l, h), new_value(l, h), d};
    float *q = scratch, *mixed = q + R * G * d, *scores = mixed + R * G * d;
    for (int r = 0; r < R; ++r) rotate(qkv_ + size_t(m + r) * qkv_width_ + size_t(h) * G * d, G, call.position[m + r], q + r * G * d);
    Attention<R, G>::run(store, q, call.sees + m, first, scores, scores_of(s_.capacity), mixed);
    for (int r = 0; r < R; ++r)
      for (int b = 0; b < G * d / kBlock; ++b) quantise_block(mix_, kind, m + r, h * G * d / kBlock + b, mixed + r * G * d + b * kBlock);
  }

  Shape s_;
  std::vector<Layer> layers_;
  std::vector<int> length_;
  std::vector<Counter> counters_;
  std::vector<std::vector<float>> scratch_;  // of each thread
  std::vector<Settling> settling_;
  int fresh_ = 0;  // rows of the last call
  int blocks_ = 0, qkv_width_ = 0;
  uint16_t *keys_, *values_, *new_keys_, *new_values_;
  float *x_, *qkv_, *rotate_;
  Quantised in_, mix_, mid_;
};

}  // namespace mz
