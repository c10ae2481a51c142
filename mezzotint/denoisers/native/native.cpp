// The C interface that Python reads through ctypes.  Sizes and pointers are checked by the caller (runtime.py).
#include "drafter.hpp"

using namespace mz;

extern "C" {

int mz_max_rows() { return kMaxRows; }
int mz_widest_head() { return kMaxHead; }

const char* mz_instructions() {
#if MZ_WIDE
  return "avx512+vnni";
#elif MZ_VNNI
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

void* mz_drafter_new(void* const* matrices, const float* norm, const float* blank, const float* masked, const int* ids, void* stack, int taps, float eps,
                     int most_others) {
  auto at = [&](int i) { return static_cast<const Linear*>(matrices[i]); };
  const Linear *output = at(2), *embedding = at(3);
  Head head{at(0), at(1), output, embedding, norm, ids, eps, Others(*embedding, norm, ids, output->n, most_others)};
  return new Drafter{std::move(head), at(4), at(5), blank, masked, static_cast<Stack*>(stack), taps};
}
void mz_drafter_free(void* d) { delete static_cast<Drafter*>(d); }

void mz_drafter_truncate(void* d, int length) { static_cast<Drafter*>(d)->truncate(length); }

// n context rows, settled, and `block` block rows after them -> out [n + block][width].
void mz_drafter_read(void* p, void* d, int n, const float* taps, const int* following, int block, const int* known, float* out) {
  static_cast<Drafter*>(d)->read(*static_cast<Pool*>(p), n, taps, following, block, known, out);
}

// state [m][width] -> that of the next drafted token where `previous` is given, in place; then the k likeliest tokens of
// each state and their log-probabilities.
void mz_drafter_follow(void* p, void* d, int m, const float* rows, const int* previous, float* state, int k, int* token, float* value) {
  auto& pool = *static_cast<Pool*>(p);
  const Head& head = static_cast<Drafter*>(d)->head;
  if (previous) head.advance(pool, m, rows, previous, state);
  head.likeliest(pool, m, state, k, token, value);
}

// Logits [width + 1][outputs] of a draft whose columns see the token before them: decided[i] or, below 0, the likeliest.
// Returns how many columns were made: none after the likeliest tokens have become less likely than `gate` together.
int mz_drafter_chain(void* p, void* d, int width, const float* state, const float* rows, const int* decided, float* out, float gate) {
  return static_cast<Drafter*>(d)->head.chain(*static_cast<Pool*>(p), width, state, rows, decided, out, gate);
}

// A tree of drafts below its root, node 0; returns the number of nodes made, the root not counted.
int mz_drafter_branches(void* p, void* d, int depth, const float* state, const float* rows, int fan, int beam, int nodes, float gate,
                        int* tokens, int* parents, float* scores) {
  return static_cast<Drafter*>(d)->head.branches(*static_cast<Pool*>(p), depth, state, rows, Limits{fan, beam, nodes, gate}, Nodes{tokens, parents, scores});
}

}  // extern "C"
