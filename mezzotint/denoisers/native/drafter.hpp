// A drafter (denoisers/networks/drafter.py) in as few calls as a pass of it needs: reading, and growing a tree of drafts.
#pragma once
#include "products.hpp"

namespace mz {

struct Limits {
  int fan, beam, nodes;  // candidates per node; nodes per depth that are drafted on; nodes per depth
  float gate;            // least chance of a node
};

struct Nodes {  // of a tree, the root not stored; parent 0 is the root, i the i-th stored node counted from 1
  int *token, *parent;
  float* score;
};

// Ids met in the settled context that the drafter's own lack, and their rows of the output head.
class Others {
 public:
  // `drafted`: the drafter's own ids.  Of the others the last `most` met are drafted.
  Others(const Linear& embedding, const float* norm, const int* drafted, int count, int most)
      : embedding_(embedding), norm_(norm), most_(most), known_(embedding.n) {
    for (int i = 0; i < count; ++i) known_[drafted[i]] = true;
  }

  int count() const { return std::min(most_, int(met_.size())); }
  int token(int i) const { return met_[met_.size() - count() + i].token; }
  float product(int i, const float* x) const {
    const int d = embedding_.k;
    const float* row = rows_.data() + (met_.size() - count() + i) * d;
    Floats sum = all<Floats>(0);
    for (int j = 0; j < d; j += kWide) sum = mul_add(load(row + j), load(x + j), sum);
    return sum_of(sum);
  }

  // Context row `at` is settled, and the token behind it is this one.
  void meet(int token, int at) {
    if (known_[token]) return;
    known_[token] = true;
    met_.push_back({token, at});
    const int d = embedding_.k;
    rows_.resize(met_.size() * d);
    float* row = rows_.data() + rows_.size() - d;
    unpack_row(embedding_, token, row);
    for (int j = 0; j < d; ++j) row[j] *= norm_[j];
  }

  // Forget what was first met at the rows from `length` on.
  void truncate(int length) {
    for (; !met_.empty() && met_.back().at >= length; met_.pop_back()) known_[met_.back().token] = false;
    rows_.resize(met_.size() * embedding_.k);
  }

 private:
  struct Met {
    int token, at;
  };
  const Linear& embedding_;
  const float* norm_;
  int most_;
  std::vector<bool> known_;
  std::vector<Met> met_;
  std::vector<float> rows_;
};

// The recurrent head: Drafter.advance and Drafter.logits.
struct Head {
  const Linear *mix_in, *mix_out, *output, *embedding;
  const float* norm;  // [width]
  const int* ids;     // of the outputs
  float eps;
  Others others;

  int width() const { return output->k; }
  int id(int index) const { return index < output->n ? ids[index] : others.token(index - output->n); }

  // state [m][width] -> that of the next drafted token, in place.
  void advance(Pool& pool, int m, const float* rows, const int* previous, float* state) const {
    const int d = width(), inner = mix_in->n;
    thread_local Scratch wide, middle;
    thread_local std::vector<float> joined, hidden;
    joined.resize(size_t(3) * d);
    hidden.resize(size_t(m) * std::max(inner, d));
    Quantised& in = wide.of(3 * d);
    for (int i = 0; i < m; ++i) {
      rms_norm(rows + size_t(i) * d, norm, d, eps, joined.data());
      token_part(*embedding, previous[i], eps, joined.data() + d);
      rms_norm(state + size_t(i) * d, norm, d, eps, joined.data() + 2 * d);
      quantise_row(in, mix_in->kind, i, joined.data());
    }
    product(pool, *mix_in, in, m, hidden.data());
    Quantised& gated = middle.of(inner);
    for (int i = 0; i < m; ++i) {
      float* x = hidden.data() + size_t(i) * inner;
      for (int j = 0; j < inner; j += kWide) store(x + j, silu_of(load(x + j)));
      quantise_row(gated, mix_out->kind, i, x);
    }
    product(pool, *mix_out, gated, m, hidden.data());
    for (size_t i = 0; i < size_t(m) * d; ++i) state[i] = rows[i] + hidden[i];
  }

  void logits(Pool& pool, int m, const float* state, float* out) const {
    const int d = width();
    thread_local Scratch narrow;
    thread_local std::vector<float> normed;
    normed.resize(d);
    Quantised& in = narrow.of(d);
    for (int i = 0; i < m; ++i) {
      rms_norm(state + size_t(i) * d, nullptr, d, eps, normed.data());
      quantise_row(in, output->kind, i, normed.data());
    }
    product(pool, *output, in, m, out);
  }

  // The k likeliest tokens of each state [m][width], of the outputs and the others, and their log-probabilities.
  void likeliest(Pool& pool, int m, const float* state, int k, int* token, float* value) const {
    thread_local std::vector<float> out, joined, normed;
    const int d = width(), n = output->n, more = others.count();
    out.resize(size_t(m) * n), joined.resize(n + more), normed.resize(d);
    logits(pool, m, state, out.data());
    for (int i = 0; i < m; ++i, token += k, value += k) {
      const float* x = out.data() + size_t(i) * n;
      if (more) {
        x = std::copy_n(x, n, joined.data()) - n;
        rms_norm(state + size_t(i) * d, nullptr, d, eps, normed.data());
        for (int j = 0; j < more; ++j) joined[n + j] = others.product(j, normed.data());
      }
      const float lse = largest(x, n + more, k, token, value);
      for (int j = 0; j < k; ++j) value[j] -= lse, token[j] = id(token[j]);
    }
  }

  // Logits of columns 0..width of a draft, as far as its likeliest tokens are together as likely as `gate`; column i + 1
  // sees the token of column i, decided (>= 0) or the likeliest.  Returns how many columns it made.
  int chain(Pool& pool, int columns, const float* state, const float* rows, const int* decided, float* out, float gate) const {
    const int d = width(), n = output->n;
    std::vector<float> now(state, state + d);
    logits(pool, 1, now.data(), out);
    float chance = 1.0f;
    for (int i = 0; i < columns; ++i, out += n) {
      int at = 0;
      float best = 0;
      const float all = largest(out, n, 1, &at, &best);
      chance *= std::exp(best - all);
      if (chance < gate) return i + 1;
      const int previous = decided[i] >= 0 ? decided[i] : ids[at];
      advance(pool, 1, rows + size_t(i) * d, &previous, now.data());
      logits(pool, 1, now.data(), out + n);
    }
    return columns + 1;
  }

  // Depth by depth: the likeliest continuations of the best nodes, as long as the whole path is likely enough.  Tokens of
  // depth 1 come from `state`; `rows` [depth][width] let depths 2, 3, ... follow.  At most limits.nodes per depth are stored.
  int branches(Pool& pool, int depth, const float* state, const float* rows, Limits limits, Nodes to) const {
    struct Found {
      float score;
      int from, token;
      bool operator<(const Found& o) const { return std::tie(o.score, o.from, o.token) < std::tie(score, from, token); }
    };
    const int d = width(), k = limits.fan;
    std::vector<float> states(state, state + d), before, repeated, value(size_t(limits.beam) * k), path{1.0f};
    std::vector<int> token(size_t(limits.beam) * k), front{0}, previous;
    std::vector<Found> found;
    int made = 0;
    likeliest(pool, 1, states.data(), k, token.data(), value.data());
    for (int level = 0;; ++level) {
      found.clear();
      for (size_t i = 0; i < front.size(); ++i)
        for (int j = 0; j < k; ++j) {
          const float p = std::exp(value[i * k + j]) * path[i];
          if (p >= limits.gate) found.push_back({p, int(i), token[i * k + j]});
        }
      std::sort(found.begin(), found.end());
      if (int(found.size()) > limits.nodes) found.resize(limits.nodes);
      for (size_t i = 0; i < found.size(); ++i) {
        to.token[made + i] = found[i].token;
        to.parent[made + i] = front[found[i].from];
        to.score[made + i] = found[i].score;
      }
      const int going = std::min<int>(found.size(), limits.beam);
      const int first = made + 1;
      made += int(found.size());
      if (!going || level == depth) return made;
      before.resize(size_t(going) * d), repeated.resize(size_t(going) * d), previous.resize(going), path.resize(going);
      std::vector<int> next(going);
      for (int i = 0; i < going; ++i) {
        std::copy_n(states.data() + size_t(found[i].from) * d, d, before.data() + size_t(i) * d);
        std::copy_n(rows + size_t(level) * d, d, repeated.data() + size_t(i) * d);
        previous[i] = found[i].token, path[i] = found[i].score, next[i] = first + i;
      }
      states.swap(before);
      front.swap(next);
      advance(pool, going, repeated.data(), previous.data(), states.data());
      likeliest(pool, going, states.data(), k, token.data(), value.data());
    }
  }

  // The normalised embedding of a token.
  static void token_part(const Linear& embedding, int token, float eps, float* out) {
    unpack_row(embedding, token, out);
    rms_norm(out, nullptr, embedding.k, eps, out);
  }
};

struct Drafter {
  Head head;
  const Linear *fuse, *fuse_token;     // [width][(taps + 1) width]: taps, then the token; the token's part alone
  const float *blank, *masked;         // [width]; a masked row is the same whatever is around it
  Stack* stack;
  int taps;

  // n context rows, which are settled, and `block` block rows; those with known[i] >= 0 hold that token.
  void read(Pool& pool, int n, const float* tap, const int* following, int block, const int* known, float* out) {
    const int d = head.width(), rows = n + block, start = stack->length(0);
    thread_local Scratch wide, narrow;
    thread_local std::vector<float> joined;
    joined.resize(size_t(taps + 1) * d);
    if (n) {
      Quantised& in = wide.of((taps + 1) * d);
      for (int i = 0; i < n; ++i) {
        for (int t = 0; t < taps; ++t) rms_norm(tap + (size_t(i) * taps + t) * d, nullptr, d, head.eps, joined.data() + size_t(t) * d);
        Head::token_part(*head.embedding, following[i], head.eps, joined.data() + size_t(taps) * d);
        quantise_row(in, fuse->kind, i, joined.data());
      }
      product(pool, *fuse, in, n, out);
    }
    for (int i = 0; i < block; ++i) {
      float* row = out + size_t(n + i) * d;
      if (known[i] < 0) {
        std::copy_n(masked, d, row);
        continue;
      }
      Quantised& in = narrow.of(d);
      Head::token_part(*head.embedding, known[i], head.eps, joined.data());
      quantise_row(in, fuse_token->kind, 0, joined.data());
      product(pool, *fuse_token, in, 1, row);
      for (int j = 0; j < d; ++j) row[j] += blank[j];
    }
    int position[kMaxRows], lane[kMaxRows] = {0}, settled[kMaxRows];
    uint64_t sees[kMaxRows];
    const uint64_t context = n == 64 ? ~0ull : (1ull << n) - 1, everything = rows == 64 ? ~0ull : (1ull << rows) - 1;
    for (int i = 0; i < rows; ++i) {
      position[i] = start + i, settled[i] = i;
      // the stack's window is about settled rows; context rows of this very pass may be too far away as well
      const int far = std::min(n, std::max(0, i + 1 - stack->shape().window));
      const uint64_t near = ~((far == 64 ? 0ull : 1ull << far) - 1);
      sees[i] = (i < n ? (2ull << i) - 1 : everything) & (near | ~context);
    }
    std::memcpy(stack->rows(), out, size_t(rows) * d * 4);
    stack->run(pool, Call{rows, position, lane, sees, 0, nullptr, nullptr});
    std::memcpy(out, stack->rows(), size_t(rows) * d * 4);
    stack->commit(0, n, settled);
    for (int i = 0; i < n; ++i) head.others.meet(following[i], start + i);
  }

  // Forget all but the first `length` context rows.
  void truncate(int length) {
    stack->truncate(0, length);
    head.others.truncate(length);
  }
};

}  // namespace mz
