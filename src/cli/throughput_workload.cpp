#include "cli/throughput_workload.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <queue>

#include "cli/json_fields.h"
#include "cli/streams.h"
#include "core/messages.h"
#include "core/python_random.h"

namespace bolide {
namespace {

constexpr int32_t kMostTokens = 1 << 24;
constexpr int32_t kMostPrompts = 1 << 20;

// An integer, or [least, most].
void read_range(JsonFields& fields, const char* name, int32_t lowest, IntRange& range) {
  const Json* value = fields.find(name);
  if (!value) return;
  const std::string what = fmt::format("an integer from {}, or two of them: [least, most]", lowest);
  const auto number = [&](const Json& one) {
    if (!one.is_number_integer() || one.get<int64_t>() < lowest || one.get<int64_t>() > kMostTokens) wrong_field(name, what, *value);
    return one.get<int32_t>();
  };
  if (value->is_array()) {
    if (value->size() != 2) wrong_field(name, what, *value);
    range = {number((*value)[0]), number((*value)[1])};
    if (range.low > range.high) wrong_field(name, what, *value);
  } else {
    range.low = range.high = number(*value);
  }
}

WorkloadShape shape_of(const Json& object) {
  if (!object.is_object()) throw Error("not a JSON object");
  WorkloadShape shape;
  JsonFields fields(object);
  shape.num_prompts = static_cast<int32_t>(fields.integer("num_prompts", 1, kMostPrompts).value_or(shape.num_prompts));
  shape.seed = static_cast<uint64_t>(fields.integer("seed", 0, std::numeric_limits<int64_t>::max()).value_or(0));
  read_range(fields, "input_len", 1, shape.input);
  read_range(fields, "output_len", 1, shape.output);
  read_range(fields, "token_ids", 0, shape.ids);
  shape.temperature = fields.number("temperature").value_or(shape.temperature);
  if (shape.temperature < 0) throw Error("'temperature' is below 0");
  if (const std::vector<std::string> unread = fields.unread(); !unread.empty())
    throw Error(fmt::format("'{}' is no field of a workload: num_prompts, seed, input_len, output_len, token_ids, temperature", unread[0]));
  return shape;
}

}  // namespace

WorkloadShape read_workload(const std::string& path) {
  const std::string text = read_input(path);
  try {
    return shape_of(parse_json(text));
  } catch (const Error& error) {
    throw UsageError(fmt::format("--workload {}: {}", in_quotes(path), error.what()));
  }
}

IntRange spread_length(int32_t length, double ratio) {
  const auto bound = [&](double factor) { return std::max(1, static_cast<int32_t>(std::floor(length * factor))); };
  return {bound(1 - ratio), bound(1 + ratio)};
}

std::vector<WorkloadRequest> make_workload(const WorkloadShape& shape, int32_t vocab) {
  const IntRange ids = shape.ids.high < shape.ids.low ? IntRange{0, vocab - 1} : shape.ids;
  if (ids.high >= vocab) {
    throw UsageError(
        fmt::format("the workload's prompts hold ids up to {}, and the model's vocabulary ends at {}. Use another workload, or "
                    "--input-len and --output-len",
                    ids.high, vocab - 1));
  }
  PythonRandom random(shape.seed);
  const auto any = [&](const IntRange& range) { return static_cast<int32_t>(random.randint(range.low, range.high)); };
  std::vector<WorkloadRequest> requests(static_cast<size_t>(shape.num_prompts));
  for (WorkloadRequest& request : requests) {
    request.prompt.resize(static_cast<size_t>(any(shape.input)));
    for (int32_t& id : request.prompt) id = any(ids);
  }
  for (WorkloadRequest& request : requests) request.output = any(shape.output);
  if (shape.request_rate <= 0) return requests;
  // Gaps of a Poisson process are exponentially distributed.
  double at = 0;
  for (WorkloadRequest& request : requests) {
    request.arrival = at;
    at -= std::log(1 - random.random()) / shape.request_rate;
  }
  return requests;
}

int64_t fewest_steps(const std::vector<WorkloadRequest>& requests, int32_t side_by_side) {
  std::priority_queue<int64_t, std::vector<int64_t>, std::greater<>> ends;  // of the sequences that run
  int64_t last = 0;
  for (const WorkloadRequest& request : requests) {
    int64_t begin = 0;
    if (ends.size() == static_cast<size_t>(side_by_side)) {
      begin = ends.top();
      ends.pop();
    }
    ends.push(begin + request.output);
    last = std::max(last, begin + request.output);
  }
  return last;
}

}  // namespace bolide
