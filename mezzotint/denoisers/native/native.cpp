// The C interface that Python reads through ctypes.  Sizes and pointers are checked by the caller (runtime.py).
#include "stack.hpp"

using namespace mz;

namespace {

// Kept between calls: fresh pages for every small product would cost more than the product.
struct Scratch {
  Quantised rows;
  ~Scratch() { rows.release(); }
  Quantised& of(int k) {
    if (k > capacity_) {
      if (capacity_) rows.release();
      rows.reserve(kMaxRows, k);
      capacity_ = k;
      row.resize(k);
    }
    rows.k = k;
    return rows;
  }
  std::vector<float> row;

 private:
  int capacity_ = 0;
};

// y[m] = W x[m], for rows already quantised.
void product(Pool& pool, const Linear& w, const Quantised& x, int rows, float* y) {
  std::atomic<int> next{0};
  const int groups = w.n / kLanes, chunk = groups > 512 ? 32 : 4, parts = (groups + chunk - 1) / chunk;
  pool.run([&](int) {
    for (int i; (i = next.fetch_add(1, std::memory_order_relaxed)) < parts;)
      for (int g = i * chunk; g < std::min(groups, (i + 1) * chunk); ++g)
        multiply_group(w, g, x, rows, [&](int m, __m256 v) { _mm256_storeu_ps(y + size_t(m) * w.n + g * kLanes, v); });
  });
}

// The k largest of x[0..n) in descending order, and the log of the sum of exponentials.
float largest(const float* x, int n, int k, int* at, float* best) {
  int kept = 0;
  for (int i0 = 0; i0 < n; i0 += 64) {
    const int end = std::min(n, i0 + 64);
    if (kept == k) {
      __m256 t = _mm256_set1_ps(-INFINITY);
      int i = i0;
      for (; i + 8 <= end; i += 8) t = _mm256_max_ps(t, _mm256_loadu_ps(x + i));
      float m = max8(t);
      for (; i < end; ++i) m = std::max(m, x[i]);
      if (!(m > best[k - 1])) continue;
    }
    for (int i = i0; i < end; ++i) {
      if (kept == k && !(x[i] > best[k - 1])) continue;
      int j = kept < k ? kept++ : k - 1;
      for (; j > 0 && x[i] > best[j - 1]; --j) best[j] = best[j - 1], at[j] = at[j - 1];
      best[j] = x[i], at[j] = i;
    }
  }
  const __m256 shift = _mm256_set1_ps(best[0]);
  __m256 total = _mm256_setzero_ps();
  int i = 0;
  for (; i + 8 <= n; i += 8) total = _mm256_add_ps(total, exp8(_mm256_sub_ps(_mm256_loadu_ps(x + i), shift)));
  double sum = sum8(total);
  for (; i < n; ++i) sum += std::exp(x[i] - best[0]);
  return best[0] + float(std::log(sum));
}

}  // namespace

extern "C" {

int mz_max_rows() { return kMaxRows; }

const char* mz_instructions() {
#if defined(__AVXVNNI__) || (defined(__AVX512VNNI__) && defined(__AVX512VL__))
  return "avx2+vnni";
#else
  return "avx2";
#endif
}

void* mz_pool_new(int threads) { return new Pool(threads); }
void mz_pool_free(void* p) { delete static_cast<Pool*>(p); }

void* mz_linear_new(int kind, int n, int k, const void* codes, const float* scale, const float* minimum) {
  return pack(kind, n, k, codes, scale, minimum);
}
void mz_linear_free(void* w) { delete static_cast<Linear*>(w); }
void mz_linear_rows(void* w, int n, const int* row, float* out) {
  const auto& m = *static_cast<Linear*>(w);
  for (int i = 0; i < n; ++i) unpack_row(m, row[i], out + size_t(i) * m.k);
}

// y = W x, or W norm(x) where a norm's weight is given.
void mz_linear_apply(void* p, void* w, int rows, const float* x, const float* norm, float eps, float* y) {
  const auto& m = *static_cast<Linear*>(w);
  thread_local Scratch scratch;
  Quantised& rows_in = scratch.of(m.k);
  for (int r0 = 0; r0 < rows; r0 += kMaxRows) {
    const int n = std::min(kMaxRows, rows - r0);
    for (int r = 0; r < n; ++r) {
      const float* from = x + size_t(r0 + r) * m.k;
      if (norm) rms_norm(from, norm, m.k, eps, scratch.row.data());
      quantise_row(rows_in, m.kind, r, norm ? scratch.row.data() : from);
    }
    product(*static_cast<Pool*>(p), m, rows_in, n, y + size_t(r0) * m.n);
  }
}

void* mz_stack_new(const int* i, const float* f) {
  return new Stack(Shape{i[0], i[1], i[2], i[3], i[4], i[5], i[6], i[7], i[8], f[0], f[1]});
}
void mz_stack_free(void* s) { delete static_cast<Stack*>(s); }
void mz_stack_layer(void* s, int l, void* qkv, void* out, void* gate_up, void* down, const float* n1, const float* n2) {
  static_cast<Stack*>(s)->layer(l) = Layer{static_cast<Linear*>(qkv), static_cast<Linear*>(out), static_cast<Linear*>(gate_up), static_cast<Linear*>(down), n1, n2};
}
int mz_stack_length(void* s, int lane) { return static_cast<Stack*>(s)->length(lane); }
void mz_stack_truncate(void* s, int lane, int length) { static_cast<Stack*>(s)->truncate(lane, length); }
void mz_stack_commit(void* s, int lane, int n, const int* rows) { static_cast<Stack*>(s)->commit(lane, n, rows); }

// x: [rows][width], read and overwritten with the residual stream after the last layer.
void mz_stack_run(void* p, void* s, int rows, float* x, const int* position, const int* lane, const uint64_t* sees, int taps,
                  const int* tap_after, float* tap_out) {
  auto& stack = *static_cast<Stack*>(s);
  const size_t bytes = size_t(rows) * stack.shape().width * 4;
  std::memcpy(stack.rows(), x, bytes);
  stack.run(*static_cast<Pool*>(p), Call{rows, position, lane, sees, taps, tap_after, tap_out});
  std::memcpy(x, stack.rows(), bytes);
}

// Per row of logits [rows][n]: log of the sum of exponentials, and the `k` largest (ties: lower index first).
void mz_top(void* p, int rows, int n, const float* logits, int k, int* index, float* value, float* lse) {
  static_cast<Pool*>(p)->run([&](int thread) {
    const int threads = static_cast<Pool*>(p)->size();
    for (int r = thread; r < rows; r += threads)
      lse[r] = largest(logits + size_t(r) * n, n, k, index + size_t(r) * k, value + size_t(r) * k);
  });
}

// The recurrent head of a drafter (denoisers/drafter.py: Drafter.advance and Drafter.logits) in one call.
struct Head {
  const Linear *mix_in, *mix_out, *output, *embedding;
  const float *norm, *ones;  // [width]
  float eps;
};
void* mz_head_new(void* mix_in, void* mix_out, void* output, void* embedding, const float* norm, const float* ones, float eps) {
  return new Head{static_cast<Linear*>(mix_in), static_cast<Linear*>(mix_out), static_cast<Linear*>(output),
                  static_cast<Linear*>(embedding), norm, ones, eps};
}
void mz_head_free(void* h) { delete static_cast<Head*>(h); }

// state [m][width] -> that of the next drafted token where `previous` is given, in place; then the k likeliest outputs of
// each state and their log-probabilities.
void mz_head_follow(void* p, void* h, int m, const float* rows, const int* previous, float* state, int k, int* index, float* value) {
  auto& pool = *static_cast<Pool*>(p);
  const Head& head = *static_cast<Head*>(h);
  const int d = head.output->k, inner = head.mix_in->n;
  thread_local Scratch wide, middle, narrow;
  thread_local std::vector<float> buffer, hidden, logits;
  if (previous) {
    buffer.resize(size_t(3) * d);
    hidden.resize(size_t(m) * std::max(inner, d));
    Quantised& joined = wide.of(3 * d);
    for (int i = 0; i < m; ++i) {
      rms_norm(rows + size_t(i) * d, head.norm, d, head.eps, buffer.data());
      unpack_row(*head.embedding, previous[i], buffer.data() + d);
      rms_norm(buffer.data() + d, head.ones, d, head.eps, buffer.data() + d);
      rms_norm(state + size_t(i) * d, head.norm, d, head.eps, buffer.data() + 2 * d);
      quantise_row(joined, head.mix_in->kind, i, buffer.data());
    }
    product(pool, *head.mix_in, joined, m, hidden.data());
    Quantised& gated = middle.of(inner);
    for (int i = 0; i < m; ++i) {
      float* x = hidden.data() + size_t(i) * inner;
      for (int j = 0; j < inner; j += kLanes) _mm256_storeu_ps(x + j, silu8(_mm256_loadu_ps(x + j)));
      quantise_row(gated, head.mix_out->kind, i, x);
    }
    product(pool, *head.mix_out, gated, m, hidden.data());
    for (size_t i = 0; i < size_t(m) * d; ++i) state[i] = rows[i] + hidden[i];
  }
  const int n = head.output->n;
  logits.resize(size_t(m) * n);
  buffer.resize(std::max(buffer.size(), size_t(d)));
  Quantised& normed = narrow.of(d);
  for (int i = 0; i < m; ++i) {
    rms_norm(state + size_t(i) * d, head.ones, d, head.eps, buffer.data());
    quantise_row(normed, head.output->kind, i, buffer.data());
  }
  product(pool, *head.output, normed, m, logits.data());
  for (int i = 0; i < m; ++i) {
    const float lse = largest(logits.data() + size_t(i) * n, n, k, index + size_t(i) * k, value + size_t(i) * k);
    for (int j = 0; j < k; ++j) value[size_t(i) * k + j] -= lse;
  }
}

}  // extern "C"
