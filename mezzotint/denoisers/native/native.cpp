// The C interface that Python reads through ctypes.  Sizes and pointers are checked by the caller (runtime.py).
#include "stack.hpp"

using namespace mz;

namespace {

struct Scratch {
  Quantised rows;
  Scratch(int k) { rows.reserve(kMaxRows, k); }
  ~Scratch() { rows.release(); }
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
  Scratch s(m.k);
  float* row = static_cast<float*>(allocate(size_t(m.k) * 4));
  for (int r0 = 0; r0 < rows; r0 += kMaxRows) {
    const int n = std::min(kMaxRows, rows - r0);
    for (int r = 0; r < n; ++r) {
      const float* from = x + size_t(r0 + r) * m.k;
      if (norm) rms_norm(from, norm, m.k, eps, row);
      quantise_row(s.rows, m.kind, r, norm ? row : from);
    }
    product(*static_cast<Pool*>(p), m, s.rows, n, y + size_t(r0) * m.n);
  }
  std::free(row);
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
    for (int r = thread; r < rows; r += threads) {
      const float* x = logits + size_t(r) * n;
      int* at = index + size_t(r) * k;
      float* best = value + size_t(r) * k;
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
      lse[r] = best[0] + float(std::log(sum));
    }
  });
}

}  // extern "C"
