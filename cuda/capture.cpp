#include "cuda/capture.h"

#include <algorithm>
#include <memory>

namespace bolide {
namespace {

constexpr CudaSite kSite{"profile"};
constexpr int kWarmUps = 3;

double median_of(std::vector<double>& values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

double seconds_between(const TimeMark& begin, const TimeMark& end, const CudaSite& site) {
  float milliseconds = 0;
  check_cuda(cudaEventElapsedTime(&milliseconds, begin.event(), end.event()), "elapsed time", site);
  return milliseconds * 1e-3;
}

}  // namespace

CapturedWork::CapturedWork(cudaStream_t stream, const std::function<void()>& enqueue, const CudaSite& site) : stream_(stream), site_(site) {
  check_cuda(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "begin capture", site);
  try {
    enqueue();
  } catch (...) {
    cudaStreamEndCapture(stream, &graph_);
    if (graph_) cudaGraphDestroy(graph_);
    cudaGetLastError();
    throw;
  }
  check_cuda(cudaStreamEndCapture(stream, &graph_), "end capture", site);
  if (const cudaError_t status = cudaGraphInstantiate(&executable_, graph_, 0); status != cudaSuccess) {
    cudaGraphDestroy(graph_);
    throw_cuda(status, "graph instantiation", site);
  }
}

CapturedWork::~CapturedWork() {
  cudaGraphExecDestroy(executable_);
  cudaGraphDestroy(graph_);
}

int32_t CapturedWork::kernels() const {
  size_t count = 0;
  check_cuda(cudaGraphGetNodes(graph_, nullptr, &count), "graph nodes", site_);
  std::vector<cudaGraphNode_t> nodes(count);
  if (count > 0) check_cuda(cudaGraphGetNodes(graph_, nodes.data(), &count), "graph nodes", site_);
  int32_t kernels = 0;
  for (const cudaGraphNode_t node : nodes) {
    cudaGraphNodeType type{};
    check_cuda(cudaGraphNodeGetType(node, &type), "graph node", site_);
    kernels += type == cudaGraphNodeTypeKernel ? 1 : 0;
  }
  return kernels;
}

void CapturedWork::launch() { check_cuda(cudaGraphLaunch(executable_, stream_), "graph launch", site_); }

double CapturedWork::median_seconds(int32_t repetitions) {
  const TimeMark begin(site_), end(site_);
  for (int i = 0; i < kWarmUps; ++i) launch();
  std::vector<double> samples;
  for (int32_t i = 0; i < repetitions; ++i) {
    check_cuda(cudaEventRecord(begin.event(), stream_), "event", site_);
    launch();
    check_cuda(cudaEventRecord(end.event(), stream_), "event", site_);
    check_cuda(cudaEventSynchronize(end.event()), "event", site_);
    samples.push_back(seconds_between(begin, end, site_));
  }
  return median_of(samples);
}

TimeMark::TimeMark(const CudaSite& site) { check_cuda(cudaEventCreate(&event_), "event", site); }

std::vector<OpTime> time_pieces(cudaStream_t stream, size_t count, int32_t repetitions, const std::function<void(size_t)>& enqueue) {
  // A first run loads kernels and finds the library's algorithms, neither of which a capture may do.
  for (size_t i = 0; i < count; ++i) enqueue(i);
  check_cuda(cudaStreamSynchronize(stream), "synchronise", kSite);
  std::vector<OpTime> times(count);
  for (size_t i = 0; i < count; ++i)
    times[i].kernels = CapturedWork(
                           stream, [&] { enqueue(i); }, kSite)
                           .kernels();

  std::vector<std::unique_ptr<TimeMark>> marks;
  for (size_t i = 0; i <= count; ++i) marks.push_back(std::make_unique<TimeMark>(kSite));
  // "External" makes the record a node of the graph, so that every launch records anew.
  const auto record = [&](size_t i) {
    check_cuda(cudaEventRecordWithFlags(marks[i]->event(), stream, cudaEventRecordExternal), "event", kSite);
  };
  CapturedWork whole(
      stream,
      [&] {
        record(0);
        for (size_t i = 0; i < count; ++i) {
          enqueue(i);
          record(i + 1);
        }
      },
      kSite);
  std::vector<std::vector<double>> samples(count);
  for (int32_t repetition = -kWarmUps; repetition < repetitions; ++repetition) {
    whole.launch();
    check_cuda(cudaStreamSynchronize(stream), "synchronise", kSite);
    for (size_t i = 0; i < count && repetition >= 0; ++i) samples[i].push_back(seconds_between(*marks[i], *marks[i + 1], kSite));
  }
  for (size_t i = 0; i < count; ++i) times[i].seconds = median_of(samples[i]);
  return times;
}

}  // namespace bolide
