#include "catch.h"
#include "checkpoint_files.h"
#include "io/safetensors.h"

using namespace bolide;

namespace {

struct Parsed {
  SafetensorsHeader header;
  std::vector<std::string> problems;
};

Parsed parse(const std::string& file) {
  Parsed out;
  out.header = parse_safetensors(as_bytes(file), "f.safetensors", out.problems);
  return out;
}
// The one problem of a file with this header and so many data bytes.
std::string problem_of(const std::string& header, size_t data_bytes) {
  const Parsed parsed = parse(safetensors_bytes(header, std::string(data_bytes, '\0')));
  if (parsed.problems.size() != 1) return std::to_string(parsed.problems.size()) + " problems";
  return parsed.problems.front();
}

}  // namespace

TEST_CASE("a valid safetensors header gives names, dtypes, shapes, absolute offsets and metadata") {
  const std::string file = safetensors_file({{"a", DType::f32, {2, 3}}, {"b.bias", DType::bf16, {5}}, {"c", DType::f16, {}}}, 3);
  const Parsed parsed = parse(file);
  CHECK(parsed.problems.empty());
  REQUIRE(parsed.header.tensors.size() == 3);
  const SafetensorsEntry& a = parsed.header.tensors.at("a");
  CHECK(a.dtype_name == "F32");
  CHECK(a.shape == Shape{2, 3});
  CHECK(a.end - a.begin == 24);
  const SafetensorsEntry& c = parsed.header.tensors.at("c");
  CHECK(c.shape.empty());
  CHECK(c.end == file.size());
  CHECK(c.begin == file.size() - 2);
  CHECK(parsed.header.metadata.at("format") == "pt");
}

TEST_CASE("dtypes that nobody computes with are kept by name, their sizes checked where the format defines them") {
  const Parsed parsed = parse(safetensors_bytes(
      R"({"i":{"dtype":"I64","shape":[2],"data_offsets":[0,16]},"x":{"dtype":"F99","shape":[3],"data_offsets":[16,23]},
         "f":{"dtype":"F4","shape":[4],"data_offsets":[23,25]},"z":{"dtype":"U8","shape":[7,0],"data_offsets":[25,25]}})",
      std::string(25, 'x')));
  CHECK(parsed.problems.empty());
  CHECK(parsed.header.tensors.at("i").dtype_name == "I64");
  CHECK(parsed.header.tensors.at("x").dtype_name == "F99");
  CHECK(parsed.header.tensors.size() == 4);
  CHECK(problem_of(R"({"i":{"dtype":"I64","shape":[2],"data_offsets":[0,8]}})", 8) ==
        "f.safetensors: 'i' is I64 [2], 16 bytes, but its data_offsets hold 8");
  CHECK(problem_of(R"({"f":{"dtype":"F4","shape":[3],"data_offsets":[0,2]}})", 2) ==
        "f.safetensors: 'f' is F4 [3], 2 bytes, but its data_offsets hold 2");
}

TEST_CASE("files that are no safetensors say what they are") {
  const std::string pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 10\n";
  CHECK(parse(pointer).problems == std::vector<std::string>{"f.safetensors is a git-lfs pointer (65 bytes), not weights. "
                                                            "Run 'git lfs pull' in its folder"});
  CHECK(parse("").problems.front() == "f.safetensors: has 0 bytes, too few for a safetensors file. Get the file again");
  CHECK(parse("1234567").problems.front() == "f.safetensors: has 7 bytes, too few for a safetensors file. Get the file again");
  const std::string long_header = std::string("\xff\x00\x00\x00\x00\x00\x00\x00", 8) + "{}";
  CHECK(parse(long_header).problems.front() ==
        "f.safetensors: is cut off or no safetensors file: its first 8 bytes announce a header of 255 bytes, the file has 10");
  CHECK(parse(std::string(8, '\xff') + "{}").problems.size() == 1);
  CHECK(problem_of("", 0) == "f.safetensors: has a header that does not begin with '{'");
  CHECK(problem_of("[1]", 0) == "f.safetensors: has a header that does not begin with '{'");
  CHECK(problem_of(" {}", 0) == "f.safetensors: has a header that does not begin with '{'");
}

TEST_CASE("header length has the format's limit") {
  // A sparse-looking but real file of 100 MB and a bit would be slow; the limit is checked before the JSON, so spaces do.
  std::string file(8 + 100'000'001, ' ');
  const uint64_t length = 100'000'001;
  std::memcpy(file.data(), &length, 8);
  CHECK(parse(file).problems.front() == "f.safetensors: has a header of 100000001 bytes; the format allows 100000000");
}

TEST_CASE("a cut-off file names expected and found sizes") {
  std::string file = safetensors_file({{"a", DType::f32, {4}}, {"b", DType::f32, {4}}});
  const size_t whole = file.size();
  file.resize(whole - 5);
  const Parsed parsed = parse(file);
  REQUIRE(parsed.problems.size() == 1);
  CHECK(parsed.problems.front() == fmt::format("f.safetensors: is cut off or corrupt: {} bytes expected from its header, {} found. "
                                               "Get the file again",
                                               whole, whole - 5));
  CHECK(parsed.header.tensors.contains("a"));
  CHECK_FALSE(parsed.header.tensors.contains("b"));
}

TEST_CASE("wrong JSON and wrong grammar are refused with the place") {
  CHECK(problem_of(R"({"a":)", 0).starts_with("f.safetensors: header is not valid JSON (byte "));
  CHECK(problem_of("{} x", 0).starts_with("f.safetensors: header is not valid JSON"));
  CHECK(problem_of("{\"\xff\":1}", 0).starts_with("f.safetensors: header is not valid JSON"));
  CHECK(problem_of("{\"a\":1e999}", 0).find("not valid JSON") != std::string::npos);
  CHECK(problem_of(R"({"a":7})", 0) == "f.safetensors: header has a number where 'a' needs an object with dtype, shape and data_offsets");
  CHECK(problem_of(R"({"a":[]})", 0) == "f.safetensors: header has an array where 'a' needs an object with dtype, shape and data_offsets");
  CHECK(problem_of(R"({"a":{"dtype":"F32"}})", 0) == "f.safetensors: header gives 'a' no shape");
  CHECK(problem_of(R"({"a":{}})", 0) == "f.safetensors: header gives 'a' no dtype");
  CHECK(problem_of(R"({"a":{"dtype":"F32","shape":[1]}})", 0) == "f.safetensors: header gives 'a' no data_offsets");
  CHECK(problem_of(R"({"a":{"dtype":1}})", 0) == "f.safetensors: header has a number where 'a' needs a dtype name");
  CHECK(problem_of(R"({"a":{"shape":[-1]}})", 0) ==
        "f.safetensors: header has a negative number where 'a' needs a shape (a list of non-negative integers)");
  CHECK(problem_of(R"({"a":{"shape":[1.5]}})", 0).find("no 64-bit integer") != std::string::npos);
  CHECK(problem_of(R"({"a":{"shape":[[1]]}})", 0).find("an array where 'a' needs a shape") != std::string::npos);
  CHECK(problem_of(R"({"a":{"shape":[18446744073709551615]}})", 0) == "f.safetensors: header gives 'a' a shape that overflows");
  CHECK(problem_of(R"({"a":{"shape":[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]}})", 0) ==
        "f.safetensors: header gives 'a' more than 16 dimensions");
  CHECK(problem_of(R"({"a":{"data_offsets":[0]}})", 0) == "f.safetensors: header gives 'a' 1 data_offsets, not two");
  CHECK(problem_of(R"({"a":{"data_offsets":[0,1,2]}})", 0) == "f.safetensors: header gives 'a' more than two data_offsets");
  CHECK(problem_of(R"({"a":{"x":1}})", 0) == "f.safetensors: header gives 'a' a second or unknown key 'x'");
  CHECK(problem_of(R"({"a":{"dtype":"F32","dtype":"F32"}})", 0) == "f.safetensors: header gives 'a' a second or unknown key 'dtype'");
  CHECK(problem_of(R"({"__metadata__":{"a":1}})", 0) == "f.safetensors: header has a __metadata__ that is not an object of strings");
  CHECK(problem_of(R"({"__metadata__":"a"})", 0) == "f.safetensors: header has a __metadata__ that is not an object of strings");
  CHECK(problem_of(R"({"__metadata__":{},"__metadata__":{}})", 0) == "f.safetensors: header has two __metadata__ entries");
  CHECK(problem_of(R"({"__metadata__":{"k":"1","k":"2"}})", 0) == "f.safetensors: header has the metadata key 'k' twice");
  const std::string entry = R"({"dtype":"U8","shape":[1],"data_offsets":[0,1]})";
  CHECK(problem_of("{\"a\":" + entry + ",\"a\":" + entry + "}", 1) == "f.safetensors: header names 'a' twice");
}

TEST_CASE("nesting of any depth is refused at once") {
  const std::string deep(1'000'000, '[');
  CHECK(problem_of("{\"a\":" + deep, 0).find("an array where 'a' needs an object") != std::string::npos);
  std::string objects = "{";
  for (int i = 0; i < 200'000; ++i) objects += "\"a\":{";
  CHECK(problem_of(objects, 0).find("second or unknown key 'a'") != std::string::npos);
}

TEST_CASE("control characters of names never reach a message") {
  CHECK(problem_of("{\"a\\u001b[2J\\n\":7}", 0).find("'a\\x1b[2J\\x0a'") != std::string::npos);
  const std::string long_name(5000, 'n');
  CHECK(problem_of("{\"" + long_name + "\":7}", 0).size() < 400);
}

TEST_CASE("offsets must fit shape, data and each other") {
  CHECK(problem_of(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}})", 8) ==
        "f.safetensors: 'a' has data_offsets [8,0], which run backwards");
  CHECK(problem_of(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}})", 4) ==
        "f.safetensors: 'a' is F32 [2], 8 bytes, but its data_offsets hold 4");
  CHECK(problem_of(R"({"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}})", 0) ==
        "f.safetensors: 'a' has shape [4294967296,4294967296], which overflows");
  CHECK(problem_of(R"({"a":{"dtype":"F32","shape":[4611686018427387904,4,0],"data_offsets":[0,0]}})", 0).find("overflows") !=
        std::string::npos);
  CHECK(problem_of(R"({"a":{"dtype":"F64","shape":[4611686018427387904],"data_offsets":[0,0]}})", 0).find("overflows") !=
        std::string::npos);
  const std::string overlap = R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[4],"data_offsets":[2,6]},
                                  "c":{"dtype":"U8","shape":[2],"data_offsets":[6,8]}})";
  CHECK(problem_of(overlap, 8) == "f.safetensors: 'a' and 'b' overlap at byte 2 of the data");
  const Parsed parsed = parse(safetensors_bytes(overlap, std::string(8, 'x')));
  CHECK(parsed.header.tensors.size() == 1);
  CHECK(parsed.header.tensors.contains("c"));
  CHECK(problem_of(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[3,7]}})", 7) ==
        "f.safetensors: 3 bytes before 'a' belong to no tensor");
  CHECK(problem_of(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})", 6) ==
        "f.safetensors: 2 bytes at its end belong to no tensor");
  CHECK(problem_of("{}", 1) == "f.safetensors: 1 bytes at its end belong to no tensor");
  CHECK(parse(safetensors_bytes("{}", "")).problems.empty());
}

TEST_CASE("offsets far outside the file leave no entry behind") {
  const Parsed parsed =
      parse(safetensors_bytes(R"({"a":{"dtype":"F99","shape":[4],"data_offsets":[18446744073709551600,18446744073709551615]}})", "1234"));
  CHECK(parsed.header.tensors.empty());
  CHECK(parsed.problems.size() == 2);  // the hole before it, and the file too short
}

TEST_CASE("the problems of a hostile header are counted, not all kept") {
  std::string header = "{";
  for (int i = 0; i < 5000; ++i) header += fmt::format(R"({}"t{}":{{"dtype":"U8","shape":[2],"data_offsets":[0,1]}})", i ? "," : "", i);
  const Parsed parsed = parse(safetensors_bytes(header + "}", "x"));
  CHECK(parsed.problems.size() == 101);
  CHECK(parsed.problems.back() == "f.safetensors: 4900 more problems");
}
