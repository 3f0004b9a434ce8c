// Opening a model and choosing a backend: what works, and the messages where it does not.
#include <fstream>

#include "catch.h"
#include "core/error.h"
#include "error_text.h"
#include "exec/backend_choice.h"
#include "exec/open_model.h"
#include "reference_checkpoint.h"

using namespace bolide;
using namespace bolide::test;

TEST_CASE("a checkpoint folder opens with its configuration and weights") {
  ModelSource source;
  source.folder = reference_folder("tiny-llama-bias-f32-shards");
  const OpenModel model = open_model(source);
  CHECK(model.config.architecture == "LlamaForCausalLM");
  CHECK(model.weights_dtype == DType::f32);
  CHECK(model.weights.layers.size() == 2);
  CHECK(model.weights.layers[1].down.bias.elements() == 45);
  CHECK(model.notes.empty());
}

TEST_CASE("a missing folder says where to get a model") {
  ModelSource source;
  source.folder = "Qwen/Qwen3-0.6B";
  auto [text, code] = error_of([&] { open_model(source); });
  CHECK(text == "model 'Qwen/Qwen3-0.6B' is not a folder. Get one with: hf download Qwen/Qwen3-0.6B --local-dir DIR");
  CHECK(code == ExitCode::model);
  source.folder = scratch_folder() / "nowhere";
  std::tie(text, code) = error_of([&] { open_model(source); });
  CHECK(contains(text, "is not a folder. Get one with: hf download Org/Name --local-dir DIR"));
}

TEST_CASE("a folder without config.json is refused by that name") {
  const std::filesystem::path folder = scratch_folder() / "empty";
  std::filesystem::create_directories(folder);
  ModelSource source;
  source.folder = folder;
  const auto [text, code] = error_of([&] { open_model(source); });
  CHECK(contains(text, "config.json"));
  CHECK(code == ExitCode::model);
}

TEST_CASE("what is assumed or ignored becomes a note") {
  const std::filesystem::path folder = scratch_folder() / "untied-without-head";
  std::filesystem::create_directories(folder);
  std::filesystem::copy(reference_folder("tiny-qwen2-bf16"), folder,
                        std::filesystem::copy_options::recursive | std::filesystem::copy_options::overwrite_existing);
  nlohmann::json config = nlohmann::json::parse(std::ifstream(folder / "config.json"));
  config["tie_word_embeddings"] = false;
  std::ofstream(folder / "config.json") << config;
  ModelSource source;
  source.folder = folder;
  const OpenModel untied = open_model(source);
  CHECK(untied.config.tied_head);
  CHECK(untied.notes == std::vector<std::string>{"lm_head.weight absent: the embedding matrix serves as head"});

  config["num_hidden_layers"] = 2;  // the third layer's tensors are left over
  config["tie_word_embeddings"] = true;
  config.erase("layer_types");
  std::ofstream(folder / "config.json") << config;
  const OpenModel shorter = open_model(source);
  REQUIRE(shorter.notes.size() == 1);
  CHECK(contains(shorter.notes[0], "tensors of the checkpoint are not used: model.layers.2.input_layernorm.weight, "));
  CHECK(contains(shorter.notes[0], " and 9 more"));
}

TEST_CASE("random weights open from a shape alone") {
  ModelSource source;
  source.random_shape = reference_folder("tiny-qwen2-bf16") / "config.json";
  source.random_dtype = DType::f16;
  source.random_seed = 3;
  const OpenModel model = open_model(source);
  CHECK(model.weights_dtype == DType::f16);
  CHECK(model.config.layers == 3);
  REQUIRE_FALSE(model.notes.empty());
  CHECK(contains(model.notes[0], "random"));
}

TEST_CASE("the CPU can always be chosen") {
  const ChosenBackend chosen = choose_backend({"cpu", 1});
  CHECK(chosen.backend->info().id == "cpu");
  CHECK(chosen.reason == "cpu");
  CHECK_FALSE(list_devices().empty());
  CHECK(list_devices().back().id == "cpu");
  CHECK(backend_descriptions().size() == 2);
}

TEST_CASE("auto says why it chose, explicit devices never fall back") {
  const ChosenBackend automatic = choose_backend({});
  CHECK(contains(automatic.reason, automatic.backend->info().id));
  CHECK(contains(automatic.reason, ": "));
  for (const std::string device : {"gpu", "cuda:", "cuda:x", "cuda:-1", "cuda:1x", ""}) {
    const auto [text, code] = error_of([&] { choose_backend({device, 0}); });
    CHECK(contains(text, "is unknown. Use auto, cpu, cuda or cuda:N"));
    CHECK(code == ExitCode::usage);
  }
  const auto [text, code] = error_of([&] { choose_backend({"cuda:63", 0}); });
  CHECK(contains(text, " asked for, but "));
  CHECK(code == ExitCode::failed);
  CHECK(error_of([&] { choose_backend({"cpu", -1}); }).second == ExitCode::usage);
}
