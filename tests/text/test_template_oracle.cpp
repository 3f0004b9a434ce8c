// Agreement with Python's jinja2, row by row (the rows come from tests/text/make_template_oracle.py), and with the published rows.
#include <sstream>

#include "catch.h"
#include "core/error.h"
#include "core/files.h"
#include "fixtures.h"
#include "text/chat_template.h"

using namespace bolide;
using Json = nlohmann::ordered_json;

namespace {

// A template's variables are its messages and its keyword arguments; `messages` may be among them.
std::string render(const std::string& source, const Json& variables) {
  const ChatTemplate chat = ChatTemplate::parse(source, "row", Json::object());
  Json kwargs = variables;
  Json messages = Json::array();
  if (kwargs.contains("messages")) {
    messages = kwargs["messages"];
    kwargs.erase("messages");
  }
  return chat.render(messages, kwargs);
}

std::vector<Json> oracle_rows(Json& variables) {
  std::istringstream lines(read_file(bolide::test::unpacked("templates/jinja.tar.xz") / "templates.jsonl"));
  std::string line;
  std::getline(lines, line);
  variables = Json::parse(line).at("variables");
  std::vector<Json> rows;
  while (std::getline(lines, line)) rows.push_back(Json::parse(line));
  return rows;
}

}  // namespace

TEST_CASE("templates render as jinja2 renders them") {
  Json shared;
  const std::vector<Json> rows = oracle_rows(shared);
  CHECK(rows.size() > 3000);
  size_t errors = 0;
  for (const Json& row : rows) {
    const std::string source = row.at("template").get<std::string>();
    INFO(row.at("group").get<std::string>() << ": " << Json(source).dump());
    std::string text, problem;
    try {
      text = render(source, row.at("variables").is_null() ? shared : row.at("variables"));
    } catch (const Error& error) {
      problem = error.what();
    }
    INFO("error: " << problem);
    if (row.contains("error")) {
      ++errors;
      INFO("text: " << text);
      CHECK(!problem.empty());
    } else {
      CHECK(text == row.at("text").get<std::string>());
      CHECK(problem.empty());
    }
  }
  CHECK(errors > 300);
}

TEST_CASE("the published template of Qwen3 renders as transformers renders it") {
  const auto chat = ChatTemplate::load(bolide::test::unpacked("tokenizers/qwen3.tar.xz") / "qwen3");
  REQUIRE(chat);
  const Json rows = Json::parse(read_file(std::filesystem::path(BOLIDE_TEST_DATA) / "tokenizer-cases" / "qwen3-chat.json"));
  CHECK(rows.size() == 12);
  for (const Json& row : rows) {
    INFO(row.dump());
    CHECK(chat->render(row.at("messages"), row.at("kwargs")) == row.at("text").get<std::string>());
  }
}
