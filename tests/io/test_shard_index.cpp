#include "catch.h"
#include "io/shard_index.h"

using namespace bolide;

namespace {

std::string problem_of(const std::string& text) {
  std::vector<std::string> problems;
  const ShardIndex index = parse_shard_index(text, "i.json", problems);
  if (problems.empty()) return "";
  CHECK(index.empty());
  return problems.front();
}

}  // namespace

TEST_CASE("a shard index maps names to files and skips everything else") {
  std::vector<std::string> problems;
  const ShardIndex index = parse_shard_index(
      R"({"metadata":{"total_size":12,"deep":[[{"weight_map":{"x":1}}],null,true,-1.5]},"other":"s",
          "weight_map":{"a":"one.safetensors","b":"two.safetensors"},"weights":[]})",
      "i.json", problems);
  CHECK(problems.empty());
  CHECK(index == ShardIndex{{"a", "one.safetensors"}, {"b", "two.safetensors"}});
  CHECK(problem_of(R"({"weight_map":{}})").empty());
}

TEST_CASE("a shard index cannot point out of its folder") {
  for (const char* name :
       {"../x.safetensors", "/etc/x.safetensors", "sub/x.safetensors", "..\\\\x.safetensors", "x\\u0000.safetensors", "..", ""}) {
    CHECK(problem_of(std::string(R"({"weight_map":{"a":")") + name + "\"}}").find("not the plain name of a .safetensors file") !=
          std::string::npos);
  }
  CHECK(problem_of(R"({"weight_map":{"a":"pytorch_model.bin","b":"pytorch_model.bin"}})") ==
        "i.json names the file 'pytorch_model.bin', which is not the plain name of a .safetensors file");
}

TEST_CASE("malformed shard indexes are refused") {
  CHECK(problem_of("").find("i.json is not valid JSON") == 0);
  CHECK(problem_of("[]") == "i.json is an array, not an object");
  CHECK(problem_of("3") == "i.json is a number, not an object");
  CHECK(problem_of("{}") == "i.json has no weight_map");
  CHECK(problem_of(R"({"a":{"weight_map":{}}})") == "i.json has no weight_map");
  CHECK(problem_of(R"({"weight_map":[]})") == "i.json has an array where weight_map needs an object");
  CHECK(problem_of(R"({"weight_map":null})") == "i.json has null where weight_map needs an object");
  CHECK(problem_of(R"({"weight_map":{"a":1}})") == "i.json has a number where 'a' needs a file name");
  CHECK(problem_of(R"({"weight_map":{"a":{"b":"c"}}})") == "i.json has an object where 'a' needs a file name");
  CHECK(problem_of(R"({"weight_map":{"a":"x.safetensors","a":"y.safetensors"}})") == "i.json names 'a' twice");
  CHECK(problem_of(R"({"weight_map":{},"weight_map":{}})") == "i.json has two weight_map entries");
  CHECK(problem_of(R"({"m":)" + std::string(500'000, '[')).find("not valid JSON") != std::string::npos);
}
