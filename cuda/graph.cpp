#include "cuda/graph.h"

#include "cuda/check.h"

namespace bolide {
namespace {

constexpr size_t kMaxGraphs = 128;  // places x capacity buckets x ways to sample x forms
constexpr CudaSite kSite{"step"};

template <class T>
void append(std::vector<unsigned char>& key, const T& value) {
  const auto* bytes = reinterpret_cast<const unsigned char*>(&value);
  key.insert(key.end(), bytes, bytes + sizeof(T));
}

}  // namespace

// Arguments with padding bytes of other values count as another step: that costs a capture, never a wrong replay. What StepInputs
// points to belongs to the key too, since kernels get those pointers by value.
std::vector<unsigned char> StepGraphs::key_of(const Step& step, int form) {
  std::vector<unsigned char> key;
  append(key, step.capacity);
  append(key, step.plain_sampling);
  append(key, step.one_row_each);
  append(key, form);
  const StepInputs* inputs = nullptr;
  for (const Op& op : step.ops) {
    append(key, op.index());
    std::visit(
        [&](const auto& args) {
          append(key, args);
          if (args.in != inputs) append(key, *(inputs = args.in));
        },
        op);
  }
  return key;
}

void StepGraphs::run(const Step& step, int form, cudaStream_t stream, const std::function<void()>& eager) {
  std::vector<unsigned char> key = key_of(step, form);
  auto found = entries_.begin();
  while (found != entries_.end() && found->key != key) ++found;
  if (found == entries_.end()) {
    // The first run loads kernels and finds cuBLASLt's algorithms, neither of which a capture may do.
    eager();
    entries_.push_front({std::move(key), nullptr});
    if (entries_.size() > kMaxGraphs) {
      if (entries_.back().graph) cudaGraphExecDestroy(entries_.back().graph);
      entries_.pop_back();
    }
    return;
  }
  entries_.splice(entries_.begin(), entries_, found);
  Entry& entry = entries_.front();
  if (!entry.graph) {
    cudaGraph_t captured = nullptr;
    check_cuda(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "begin capture", kSite);
    try {
      eager();
    } catch (...) {
      cudaStreamEndCapture(stream, &captured);
      if (captured) cudaGraphDestroy(captured);
      cudaGetLastError();
      throw;
    }
    check_cuda(cudaStreamEndCapture(stream, &captured), "end capture", kSite);
    const cudaError_t status = cudaGraphInstantiate(&entry.graph, captured, 0);
    cudaGraphDestroy(captured);
    check_cuda(status, "graph instantiation", kSite);
  }
  check_cuda(cudaGraphLaunch(entry.graph, stream), "graph launch", kSite);
}

void StepGraphs::clear() {
  for (Entry& entry : entries_) {
    if (entry.graph) cudaGraphExecDestroy(entry.graph);
  }
  entries_.clear();
}

}  // namespace bolide
