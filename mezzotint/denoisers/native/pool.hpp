// Threads that run one function together and meet at barriers.  They spin briefly, because a pass of the network has
// some two hundred meeting points, and then give up the core, because spinning on a busy machine costs more than sleeping.
#pragma once
#include <immintrin.h>
#include <sched.h>

#include <atomic>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace mz {

class Pool {
 public:
  explicit Pool(int threads) : size_(threads < 1 ? 1 : threads) {
    for (int i = 1; i < size_; ++i) workers_.emplace_back([this, i] { work(i); });
  }
  ~Pool() {
    stop_.store(true);
    epoch_.fetch_add(1, std::memory_order_release);
    epoch_.notify_all();
    for (auto& t : workers_) t.join();
  }
  int size() const { return size_; }

  // body(thread) on every thread; returns when all have finished.
  void run(const std::function<void(int)>& body) {
    std::lock_guard<std::mutex> lock(busy_);
    body_ = &body;
    epoch_.fetch_add(1, std::memory_order_release);
    if (size_ > 1) epoch_.notify_all();
    body(0);
    barrier();
  }

  void barrier() {
    if (size_ == 1) return;
    const uint32_t phase = phase_.load(std::memory_order_acquire);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) == size_ - 1) {
      arrived_.store(0, std::memory_order_relaxed);
      phase_.store(phase + 1, std::memory_order_release);
      return;
    }
    for (int spins = 0; phase_.load(std::memory_order_acquire) == phase; ++spins)
      if (spins < 40000) _mm_pause();
      else sched_yield();
  }

 private:
  void work(int i) {
    uint32_t seen = 0;
    for (;;) {
      for (int spins = 0; epoch_.load(std::memory_order_acquire) == seen && spins < 30000; ++spins) _mm_pause();
      while (epoch_.load(std::memory_order_acquire) == seen) epoch_.wait(seen, std::memory_order_acquire);
      seen = epoch_.load(std::memory_order_acquire);
      if (stop_.load()) return;
      (*body_)(i);
      barrier();
    }
  }
  int size_;
  std::vector<std::thread> workers_;
  std::mutex busy_;
  const std::function<void(int)>* body_ = nullptr;
  std::atomic<bool> stop_{false};
  alignas(64) std::atomic<uint32_t> epoch_{0};
  alignas(64) std::atomic<int> arrived_{0};
  alignas(64) std::atomic<uint32_t> phase_{0};
};

}  // namespace mz
