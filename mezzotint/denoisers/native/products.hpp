// Products of whole matrices by all threads, and the search for the largest outputs.
#pragma once
#include "stack.hpp"

namespace mz {

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
inline void product(Pool& pool, const Linear& w, const Quantised& x, int rows, float* y) {
  std::atomic<int> next{0};
  const int chunk = w.n > 4096 ? 256 : 32, parts = (w.n + chunk - 1) / chunk;
  pool.run([&](int) {
    for (int i; (i = next.fetch_add(1, std::memory_order_relaxed)) < parts;)
      multiply(w, i * chunk, std::min(w.n, (i + 1) * chunk), x, rows,
               [&](int m, int channel, Floats v) {
                 float* to = y + size_t(m) * w.n + channel;
                 if (channel + kWide <= w.n) store(to, v);
                 else _mm256_storeu_ps(to, first_half(v));
               });
  });
}

// The k largest of x[0..n) in descending order, and the log of the sum of exponentials.
inline float largest(const float* x, int n, int k, int* at, float* best) {
  int kept = 0;
  for (int i0 = 0; i0 < n; i0 += 64) {
    const int end = std::min(n, i0 + 64);
    if (kept == k) {
      __m256 t = _mm256_set1_ps(-INFINITY);
      int i = i0;
      for (; i + 8 <= end; i += 8) t = _mm256_max_ps(t, _mm256_loadu_ps(x + i));
      float m = most_of(t);
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
  for (; i + 8 <= n; i += 8) total = _mm256_add_ps(total, exp_of(_mm256_sub_ps(_mm256_loadu_ps(x + i), shift)));
  double sum = sum_of(total);
  for (; i < n; ++i) sum += std::exp(x[i] - best[0]);
  return best[0] + float(std::log(sum));
}

}  // namespace mz
