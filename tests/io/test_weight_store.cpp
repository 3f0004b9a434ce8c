#include "catch.h"
#include "caught.h"
#include "checkpoint_files.h"
#include "io/weight_store.h"

using namespace bolide;

namespace {

const std::string kPointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 10\n";

std::string index_of(const std::vector<std::pair<std::string, std::string>>& places) {
  std::string map;
  for (const auto& [name, file] : places) map += fmt::format("{}\"{}\":\"{}\"", map.empty() ? "" : ",", name, file);
  return "{\"metadata\":{\"total_size\":1},\"weight_map\":{" + map + "}}";
}

// Opens, requires each name with shape [2], and reports what throw_problems() says.
Caught problems_of(const TemporaryFolder& folder, const std::vector<std::string>& names) {
  return caught([&] {
    const auto store = open_weight_store(folder.path());
    for (const std::string& name : names) store->require(name, {2});
    store->throw_problems();
  });
}

}  // namespace

TEST_CASE("one file serves tensors of all three dtypes") {
  const TemporaryFolder folder;
  folder.write("model.safetensors",
               safetensors_file({{"w", DType::bf16, {2, 3}, 1}, {"n", DType::f32, {4}, 2}, {"h", DType::f16, {3}, 3}}));
  const auto store = open_weight_store(folder.path());
  CHECK(store->description() == "model.safetensors");
  const TensorView w = store->require("w", {2, 3}), n = store->require("n", {4}), h = store->require("h", {3});
  REQUIRE(w);
  CHECK(w.dtype == DType::bf16);
  CHECK(w.shape == Shape{2, 3});
  CHECK(n.dtype == DType::f32);
  CHECK(h.dtype == DType::f16);
  for (int i = 0; i < 3; ++i) {
    CHECK(load_element(w.data, w.dtype, i) == 1 + i / 64.0f);
    CHECK(load_element(n.data, n.dtype, i) == 2 + i / 64.0f);
    CHECK(load_element(h.data, h.dtype, i) == 3 + i / 64.0f);
  }
  CHECK_NOTHROW(store->throw_problems());
  CHECK(store->contains("w"));
  CHECK_FALSE(store->contains("v"));
}

TEST_CASE("tensors that the file leaves unaligned are still aligned in memory") {
  // The data begins right after the header, so some padding of 0..3 puts it at every address modulo 4.
  for (size_t padding = 0; padding < 4; ++padding) {
    const TemporaryFolder folder;
    folder.write("model.safetensors", safetensors_file({{"b", DType::bf16, {3}, 1}, {"f", DType::f32, {5}, 2}}, padding));
    const auto store = open_weight_store(folder.path());
    const TensorView b = store->require("b", {3}), f = store->require("f", {5});
    REQUIRE(b);
    REQUIRE(f);
    CHECK(reinterpret_cast<uintptr_t>(b.data) % 2 == 0);
    CHECK(reinterpret_cast<uintptr_t>(f.data) % 4 == 0);
    CHECK(load_element(b.data, b.dtype, 2) == 1 + 2 / 64.0f);
    CHECK(load_element(f.data, f.dtype, 4) == 2 + 4 / 64.0f);
    CHECK(store->require("f", {5}).data == f.data);
  }
}

TEST_CASE("shards are found through their index") {
  const TemporaryFolder folder;
  folder.write("m-1.safetensors", safetensors_file({{"a", DType::f32, {2}, 1}, {"unlisted", DType::f32, {2}}}));
  folder.write("m-2.safetensors", safetensors_file({{"b", DType::f32, {2}, 5}, {"c", DType::f32, {2}}}));
  folder.write("model.safetensors.index.json", index_of({{"a", "m-1.safetensors"}, {"b", "m-2.safetensors"}, {"c", "m-2.safetensors"}}));
  const auto store = open_weight_store(folder.path());
  CHECK(store->description() == "2 shards");
  CHECK(load_element(store->require("b", {2}).data, DType::f32, 0) == 5);
  CHECK(load_element(store->require("a", {2}).data, DType::f32, 0) == 1);
  CHECK(store->unread() == std::vector<std::string>{"c"});
  CHECK_NOTHROW(store->throw_problems());
}

TEST_CASE("model.safetensors goes before an index, and a sole file of another name is taken") {
  const TemporaryFolder folder;
  folder.write("weights.safetensors", safetensors_file({{"a", DType::f32, {2}, 7}}));
  CHECK(open_weight_store(folder.path())->description() == "weights.safetensors");
  folder.write("model.safetensors.index.json", index_of({{"a", "weights.safetensors"}}));
  CHECK(open_weight_store(folder.path())->description() == "1 shard");
  folder.write("model.safetensors", safetensors_file({{"a", DType::f32, {2}, 8}}));
  const auto store = open_weight_store(folder.path());
  CHECK(load_element(store->require("a", {2}).data, DType::f32, 0) == 8);
}

TEST_CASE("optional tensors may be absent but not wrong") {
  const TemporaryFolder folder;
  folder.write("model.safetensors", safetensors_file({{"a", DType::f32, {2}}}));
  const auto store = open_weight_store(folder.path());
  CHECK_FALSE(store->optional("b", {2}));
  CHECK_NOTHROW(store->throw_problems());
  CHECK(store->unread() == std::vector<std::string>{"a"});
  CHECK_FALSE(store->optional("a", {3}));
  CHECK(caught([&] { store->throw_problems(); }).text == folder.text() + ": 'a' [2], config.json says [3]");
}

TEST_CASE("problems of tensors are listed together") {
  const TemporaryFolder folder;
  folder.write("model.safetensors", safetensors_bytes(R"({"a":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]},
                                                          "b":{"dtype":"I64","shape":[2],"data_offsets":[8,24]}})",
                                                      std::string(24, 'x')));
  const Caught error = problems_of(folder, {"a", "b", "c"});
  CHECK(error.text ==
        "3 problems in " + folder.text() +
            ": 'a' [1,2], config.json says [2]; 'b' is 'I64', supported are F32, F16 and BF16; 'c' absent, config.json says [2]");
  CHECK(error.code == ExitCode::model);
}

TEST_CASE("a long list of problems is cut") {
  const TemporaryFolder folder;
  folder.write("model.safetensors", safetensors_file({}));
  std::vector<std::string> names;
  for (int i = 0; i < 50; ++i) names.push_back(fmt::format("t{}", i));
  const Caught error = problems_of(folder, names);
  CHECK(error.says("50 problems in "));
  CHECK(error.says("'t19' absent"));
  CHECK_FALSE(error.says("'t20' absent"));
  CHECK(error.says("; and 30 more"));
}

TEST_CASE("a broken file is one problem, not one for each of its tensors") {
  const TemporaryFolder folder;
  folder.write("model.safetensors", kPointer);
  const Caught pointer = problems_of(folder, {"a", "b"});
  CHECK(pointer.text == fmt::format("model.safetensors is a git-lfs pointer ({} bytes), not weights. Run 'git lfs pull' in {}",
                                    kPointer.size(), folder.text()));
  CHECK(pointer.code == ExitCode::model);

  std::string cut = safetensors_file({{"a", DType::f32, {2}}, {"b", DType::f32, {2}}});
  cut.resize(cut.size() - 1);
  folder.write("model.safetensors", cut);
  const Caught truncated = problems_of(folder, {"a", "b"});
  CHECK(truncated.text == fmt::format("{}: model.safetensors: is cut off or corrupt: {} bytes expected from its header, {} found. "
                                      "Get the file again",
                                      folder.text(), cut.size() + 1, cut.size()));
  CHECK(truncated.code == ExitCode::model);

  folder.write("model.safetensors", "abc");
  CHECK(problems_of(folder, {"a"}).says("model.safetensors: has 3 bytes, too few"));
}

TEST_CASE("everything wrong with a set of shards is in one message") {
  const TemporaryFolder folder;
  std::string cut = safetensors_file({{"a", DType::f32, {2}}});
  cut.resize(cut.size() - 4);
  folder.write("1.safetensors", cut);
  folder.write("2.safetensors", kPointer);
  folder.write("4.safetensors", safetensors_file({{"d", DType::f32, {3}}}));
  folder.write(
      "model.safetensors.index.json",
      index_of({{"a", "1.safetensors"}, {"b", "2.safetensors"}, {"c", "3.safetensors"}, {"d", "4.safetensors"}, {"e", "4.safetensors"}}));
  const Caught error = problems_of(folder, {"a", "b", "c", "d", "e", "f"});
  CHECK(error.code == ExitCode::model);
  CHECK(error.says("6 problems in " + folder.text()));
  CHECK(error.says("1.safetensors: is cut off or corrupt"));
  CHECK(error.says("2.safetensors is a git-lfs pointer"));
  CHECK(error.says("3.safetensors is missing"));
  CHECK(error.says("'e' absent from 4.safetensors, where model.safetensors.index.json says it is"));
  CHECK(error.says("'d' [3], config.json says [2]"));
  CHECK(error.says("'f' absent, config.json says [2]"));
}

TEST_CASE("an index that is wrong itself is the only problem") {
  const TemporaryFolder folder;
  folder.write("model.safetensors.index.json", "{\"weight_map\": 3}");
  CHECK(problems_of(folder, {"a"}).text == folder.text() + ": model.safetensors.index.json has a number where weight_map needs an object");
  folder.write("model.safetensors.index.json", kPointer);
  CHECK(problems_of(folder, {"a"}).says("model.safetensors.index.json is a git-lfs pointer"));
  folder.write("model.safetensors.index.json", index_of({{"a", "../outside.safetensors"}}));
  const Caught outside = problems_of(folder, {"a"});
  CHECK(outside.says("'../outside.safetensors', which is not the plain name"));
  CHECK(outside.code == ExitCode::model);
}

TEST_CASE("folders without weights say what they hold") {
  const Caught no_folder = caught([] { open_weight_store("/nonexistent/model"); });
  CHECK(no_folder.text == "/nonexistent/model is not a folder. A model is a folder with config.json and *.safetensors");
  CHECK(no_folder.code == ExitCode::model);
  const TemporaryFolder folder;
  CHECK(problems_of(folder, {"a"}).text ==
        folder.text() + ": no weights (model.safetensors, model.safetensors.index.json or one *.safetensors)");
  folder.write("pytorch_model.bin", "x");
  CHECK(problems_of(folder, {"a"}).says("'pytorch_model.bin' is not in safetensors format"));
  folder.write("x.safetensors", safetensors_file({}));
  folder.write("y.safetensors", safetensors_file({}));
  CHECK(problems_of(folder, {"a"}).says("2 *.safetensors files ('x.safetensors', ...), but no model.safetensors.index.json"));
}

TEST_CASE("a link without its target is called an unfinished download") {
  const TemporaryFolder folder;
  std::filesystem::create_symlink("blobs/none", folder.path() / "1.safetensors");
  folder.write("model.safetensors.index.json", index_of({{"a", "1.safetensors"}}));
  CHECK(problems_of(folder, {"a"}).says("1.safetensors is missing (a link without its target: an unfinished download?)"));
}
