// A pass of a pre-norm transformer in float32 (RMSNorm, rotary positions, grouped heads, SwiGLU) through laid-out
// matrices, and its C interface.  Sizes and pointers are checked by the caller (dense.py).
#include "dense.hpp"

using namespace mz;
using namespace mz::dense;

extern "C" {

struct DenseLayer {
  const float *norm1, *norm2;
  const Matrix *q, *kv, *out, *gate_up, *down;
  const float *q_bias, *kv_bias, *q_norm, *k_norm;  // null where there is none
};

struct DenseShape {
  int layers, width, inner, heads, kv_heads, dim;
  int turned;  // leading components of a head that turn with the position
  float eps;
};

struct DenseCall {
  int batch, count;     // rows, new columns of each
  int start, capacity;  // columns read before, room of the store
  int wanted;           // columns of each row whose answers are asked for; -1: all, 0: only keys and values are
  int mask_stride;      // bytes from a row's mask to the next row's: 0 where rows share one
  float* x;             // [batch][count][width]; overwritten
  const float *cos, *sin;  // [positions][turned / 2]
  const int64_t *positions, *rows;  // [batch][count]; [batch][wanted]
  float *keys, *values;    // [layers][batch][kv_heads][capacity][dim]
  size_t layer_stride;     // numbers from a layer's keys to the next layer's; 0 where nothing is kept
  const uint8_t* mask;     // [.][count][start + count], null where all is seen
  float* out;              // [batch][wanted][width]
};
}

namespace {

struct Scratch {
  std::vector<float> normed, q, kv, mixed, gate, picked, keys, scores;
  float* of(std::vector<float>& v, size_t n) {
    if (v.size() < n) v.resize(n);
    return v.data();
  }
};

// The pairs (i, i + half) of a head turn by its position's angles (RoPE, arXiv 2104.09864).
void turn(float* x, const float* cos, const float* sin, int half) {
  for (int i = 0; i < half; ++i) {
    const float a = x[i], b = x[i + half];
    x[i] = a * cos[i] - b * sin[i];
    x[i + half] = b * cos[i] + a * sin[i];
  }
}

void norms(Pool& pool, const float* x, const float* weight, int rows, const DenseShape& s, float* y) {
  each(pool, rows, 16, [&](int r) { rms_norm(x + size_t(r) * s.width, weight, s.width, s.eps, y + size_t(r) * s.width); });
}

struct Pass {
  Pool& pool;
  const DenseShape& s;
  const DenseCall& c;
  Scratch& t;

  int64_t position(int row) const { return c.positions[row]; }

  // Heads of a row, normed where the network norms them, and turned.
  void prepare(float* x, int heads, const float* norm, int64_t at) const {
    const int half = s.turned / 2;
    for (int h = 0; h < heads; ++h, x += s.dim) {
      if (norm) rms_norm(x, norm, s.dim, s.eps, x);
      turn(x, c.cos + at * half, c.sin + at * half, half);
    }
  }

  // Keys and values of the new columns into the store, a band of rows at a time.
  void keep(const DenseLayer& w, const float* normed, float* keys, float* values) const {
    const int all = c.batch * c.count, size = s.kv_heads * s.dim;
    for (int r0 = 0; r0 < all; r0 += kBand) {
      const int rows = std::min(kBand, all - r0);
      float* kv = t.of(t.kv, size_t(rows) * 2 * size);
      product(pool, {normed + size_t(r0) * s.width, size_t(s.width)}, rows, *w.kv, {w.kv_bias, 0}, kv);
      each(pool, rows, 16, [&](int i) {
        float* row = kv + size_t(i) * 2 * size;
        const int r = r0 + i, b = r / c.count, column = c.start + r % c.count;
        prepare(row, s.kv_heads, w.k_norm, position(r));
        for (int h = 0; h < s.kv_heads; ++h) {
          const size_t at = ((size_t(b) * s.kv_heads + h) * c.capacity + column) * s.dim;
          std::memcpy(keys + at, row + h * s.dim, sizeof(float) * s.dim);
          std::memcpy(values + at, row + size + h * s.dim, sizeof(float) * s.dim);
        }
      });
    }
  }

  // Attention of `count` queries of each row, which stand at `columns` of the new ones.
  void mix(const float* q, int count, const int64_t* columns, const float* keys, const float* values, float* mixed) const {
    const int all = c.start + c.count, padded = panels(all) * kPanel, group = s.heads / s.kv_heads;
    const size_t laid = size_t(padded) * s.dim, scored = size_t(std::min(count, kQueries)) * padded, wide = s.heads * s.dim;
    float* room = t.of(t.keys, (laid + scored) * pool.size());
    std::atomic<int> next{0};
    pool.run([&](int thread) {
      float *own = room + (laid + scored) * thread, *scores = own + laid;
      std::vector<const uint8_t*> seen(c.mask ? count : 0);
      for (int i; (i = next.fetch_add(1, std::memory_order_relaxed)) < c.batch * s.kv_heads;) {
        const int b = i / s.kv_heads, kh = i % s.kv_heads;
        const size_t store = size_t(i) * c.capacity * s.dim;
        lay_out(keys + store, all, s.dim, s.dim, own);
        for (int m = 0; m < int(seen.size()); ++m)
          seen[m] = c.mask + size_t(b) * c.mask_stride + (columns ? columns[size_t(b) * count + m] : m) * all;
        for (int h = kh * group; h < (kh + 1) * group; ++h) {
          const size_t at = size_t(b) * count * wide + h * s.dim;
          attend({own, values + store, all, s.dim, 1.0f / std::sqrt(float(s.dim))}, {q + at, wide}, count,
                 c.mask ? seen.data() : nullptr, scores, {mixed + at, wide});
        }
      }
    });
  }

  // What a layer adds to `count` columns of each row: x [batch * count][width].
  void add(const DenseLayer& w, float* x, const float* normed, int count, const int64_t* columns, const float* keys,
           const float* values) const {
    const int rows = c.batch * count, wide = s.heads * s.dim;
    const size_t width = s.width;
    float *q = t.of(t.q, size_t(rows) * wide), *mixed = t.of(t.mixed, size_t(rows) * wide);
    product(pool, {normed, width}, rows, *w.q, {w.q_bias, 0}, q);
    each(pool, rows, 16, [&](int r) {
      const int b = r / count;
      prepare(q + size_t(r) * wide, s.heads, w.q_norm, position(columns ? b * c.count + int(columns[r]) : r));
    });
    mix(q, count, columns, keys, values, mixed);
    product(pool, {mixed, size_t(wide)}, rows, *w.out, {x, width}, x);
    for (int r = 0; r < rows; r += kBand) feed(w, x + r * width, std::min(kBand, rows - r));
  }

  // The feed-forward of a band of rows: what it holds does not grow with the canvas.
  void feed(const DenseLayer& w, float* x, int rows) const {
    const size_t width = s.width, inner = s.inner;
    float *normed = t.of(t.q, rows * width), *gate = t.of(t.gate, rows * 2 * inner);
    norms(pool, x, w.norm2, rows, s, normed);
    product(pool, {normed, width}, rows, *w.gate_up, {nullptr, 0}, gate);
    each(pool, rows, 8, [&](int r) {
      float *a = gate + size_t(r) * 2 * inner, *b = a + inner;
      for (size_t i = 0; i < inner; i += 8)
        _mm256_storeu_ps(a + i, _mm256_mul_ps(silu_of(_mm256_loadu_ps(a + i)), _mm256_loadu_ps(b + i)));
    });
    product(pool, {gate, 2 * inner}, rows, *w.down, {x, width}, x);
  }

  void run(const DenseLayer* layers, const float* last_norm) const {
    const int rows = c.batch * c.count;
    float* normed = t.of(t.normed, size_t(rows) * s.width);
    for (int depth = 0; depth < s.layers; ++depth) {
      const DenseLayer& w = layers[depth];
      float *keys = c.keys + c.layer_stride * depth, *values = c.values + c.layer_stride * depth;
      norms(pool, c.x, w.norm1, rows, s, normed);
      keep(w, normed, keys, values);
      if (depth + 1 < s.layers || c.wanted < 0) {
        add(w, c.x, normed, c.count, nullptr, keys, values);
        continue;
      }
      if (c.wanted == 0) return;
      // the last layer need not answer where nobody asks
      const int few = c.batch * c.wanted;
      float *x = t.of(t.picked, size_t(few) * s.width * 2), *y = x + size_t(few) * s.width;
      for (int r = 0; r < few; ++r) {
        const size_t from = (size_t(r / c.wanted) * c.count + c.rows[r]) * s.width;
        std::memcpy(x + size_t(r) * s.width, c.x + from, sizeof(float) * s.width);
        std::memcpy(y + size_t(r) * s.width, normed + from, sizeof(float) * s.width);
      }
      add(w, x, y, c.wanted, c.rows, keys, values);
      norms(pool, x, last_norm, few, s, c.out);
      return;
    }
    norms(pool, c.x, last_norm, rows, s, c.out);
  }
};

}  // namespace

extern "C" {

void* mz_pool_new(int threads) { return new Pool(threads); }
void mz_pool_free(void* p) { delete static_cast<Pool*>(p); }

void* mz_matrix_new(int n, int k, const float* w) {
  auto* m = new Matrix{n, k, static_cast<float*>(allocate(sizeof(float) * panels(n) * kPanel * size_t(k)))};
  if (!m->data) return delete m, nullptr;
  lay_out(w, n, k, k, m->data);
  return m;
}
void mz_matrix_free(void* m) { delete static_cast<Matrix*>(m); }
void mz_matrix_apply(void* pool, void* m, int rows, const float* x, float* y) {
  const auto& w = *static_cast<Matrix*>(m);
  product(*static_cast<Pool*>(pool), {x, size_t(w.k)}, rows, w, {nullptr, 0}, y);
}

void mz_best(void* pool, int rows, int n, const float* x, int64_t* at, float* probability) {
  each(*static_cast<Pool*>(pool), rows, 1, [&](int r) { best(x + size_t(r) * n, n, at + r, probability + r); });
}

void mz_dense_run(void* pool, const DenseShape* shape, const DenseLayer* layers, const float* norm, const DenseCall* call) {
  thread_local Scratch scratch;
  Pass{*static_cast<Pool*>(pool), *shape, *call, scratch}.run(layers, norm);
}
}
