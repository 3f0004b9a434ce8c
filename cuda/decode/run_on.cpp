#include "cuda/decode/run_on.h"

#include <cstring>
#include <thread>

#include "cuda/check.h"

namespace bolide {

bool same_kernel(const DecodeLaunch& a, const DecodeLaunch& b) {
  // By bytes but for what may differ, and for a struct that was copied with whatever its padding held.
  const KvView &k = a.parameters.kv, &l = b.parameters.kv;
  const bool same_kv = k.data == l.data && k.dtype == l.dtype && k.chunks == l.chunks && k.kv_heads == l.kv_heads &&
                       k.chunk_tokens == l.chunk_tokens && k.head_dim == l.head_dim;
  decode::Parameters x, y;
  std::memcpy(&x, &a.parameters, sizeof x);
  std::memcpy(&y, &b.parameters, sizeof y);
  for (decode::Parameters* p : {&x, &y}) {
    p->in = {};
    p->previous = nullptr;
    p->out = nullptr;
    std::memset(&p->kv, 0, sizeof p->kv);
  }
  return a.launch == b.launch && same_kv && std::memcmp(&x, &y, sizeof x) == 0;
}

void RunOn::run(const DecodeLaunch& step) {
  if (posted_) decide();
  const bool behind = last_work_ && same_kernel(last_, step) && !device_.outcome(number_);
  last_ = step;
  ++number_;
  ++steps_;
  last_work_ = true;
  if (behind) {
    device_.post(last_, number_);
    posted_ = true;
  } else {
    launch();
  }
}

void RunOn::launch() {
  device_.launch(last_, number_);
  ++launches_;
}

void RunOn::decide() {
  const StepOutcome before = await(number_ - 1);
  posted_ = false;
  if (before.end == decode::StepEnd::goes_on) return;
  if (before.end == decode::StepEnd::leaves) return launch();
  // What it would go on from does not exist, or nobody wants what follows.
  device_.leave_out(last_);
  left_out_ = number_;
  ++left_outs_;
  last_work_ = false;
}

void RunOn::leave() {
  if (posted_) decide();
  last_work_ = false;
}

std::optional<uint32_t> RunOn::number_of(const void* out) const {
  return last_work_ && out == last_.parameters.out ? std::optional(number_) : std::nullopt;
}

DrawnIds RunOn::wait(uint32_t number) {
  if (posted_ && (number == number_ || number == number_ - 1)) decide();
  if (number != left_out_) return await(number).ids;
  DrawnIds none;
  none.fill(-1);
  return none;
}

StepOutcome RunOn::await(uint32_t number) {
  constexpr int kPollsBetweenLooks = 4096;
  for (int polls = 1;; ++polls) {
    if (const std::optional<StepOutcome> outcome = device_.outcome(number)) return *outcome;
    std::this_thread::yield();
    if (polls % kPollsBetweenLooks != 0 || !device_.idle()) continue;
    if (const std::optional<StepOutcome> outcome = device_.outcome(number)) return *outcome;
    throw_contract("the decode kernel ended without a token", {"step"});
  }
}

}  // namespace bolide
