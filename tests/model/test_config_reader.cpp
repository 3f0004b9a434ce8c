#include <nlohmann/json.hpp>

#include "catch.h"
#include "caught.h"
#include "core/messages.h"
#include "model/config_reader.h"

using namespace bolide;

TEST_CASE("a reader remembers which keys were consumed") {
  const auto json = nlohmann::json::parse(R"({"a":1,"b":2.5,"c":true,"d":"x","e":[1,2],"f":null,"g":{"h":3},"i":0})");
  ConfigReader reader(json, "c.json");
  CHECK(reader.require_int("a", 0, 10) == 1);
  CHECK(reader.require_number("a", 0, 10) == 1.0);
  CHECK(reader.number_or("b", 0, 0, 10) == 2.5);
  CHECK(reader.bool_or("c", false));
  CHECK(reader.string_or("d", "y") == "x");
  CHECK(reader.optional_int_list("e", 0, 9, 4) == std::vector<int64_t>{1, 2});
  CHECK(reader.optional_int_list("a", 0, 9, 4) == std::vector<int64_t>{1});
  CHECK_FALSE(reader.optional_int_list("f", 0, 9, 4).has_value());
  CHECK(reader.present("f"));
  CHECK_FALSE(reader.has("f"));
  CHECK_FALSE(reader.present("z"));
  CHECK(reader.int_or("f", 5, 0, 10) == 5);
  auto nested = reader.optional_object("g");
  REQUIRE(nested.has_value());
  CHECK(nested->unread() == std::vector<std::string>{"h"});
  CHECK(reader.holds_objects());
  CHECK_FALSE(nested->holds_objects());
  CHECK(reader.unread() == std::vector<std::string>{"i"});
  CHECK_NOTHROW(reader.throw_problems());
}

TEST_CASE("problems of nested objects carry the outer key, and values stay safe") {
  const auto json = nlohmann::json::parse(R"({"n":"no","g":{"h":[]},"l":[1,2,3],"s":["a",1]})");
  ConfigReader reader(json, "c.json");
  CHECK(reader.require_int("n", 3, 10) == 3);
  auto nested = reader.optional_object("g");
  CHECK(nested->require_number("h", 2.5, 10) == 2.5);
  CHECK(nested->require_int("gone", 7, 9) == 7);
  CHECK(reader.optional_int_list("l", 0, 9, 2)->empty());
  reader.optional_string_list("s", 4);
  CHECK_FALSE(reader.optional_object("n").has_value());
  const Caught error = caught([&] { reader.throw_problems(); });
  CHECK(error.text ==
        "6 problems in c.json: 'n' is 'no', must be an integer; 'g.h' is a list, must be a number; 'g.gone' is missing; "
        "'l' has 3 entries, at most 2 are supported; 's' is a list, must be a list of strings; 'n' is 'no', must be an object");
  CHECK(error.code == ExitCode::model);
}

TEST_CASE("quoted text is safe to print and short") {
  CHECK(in_quotes("plain") == "'plain'");
  CHECK(in_quotes("a\x1b[31m\n\x7f") == "'a\\x1b[31m\\x0a\\x7f'");
  CHECK(in_quotes("abcdef", 3) == "'abc...'");
  CHECK(in_quotes("h\xc3\xa9llo", 2) == "'h...'");  // never half a character
  CHECK(in_quotes("") == "''");
}

TEST_CASE("lists of problems") {
  CHECK(problems_text({"p"}, "DIR") == "DIR: p");
  CHECK(problems_text({"p in DIR"}, "DIR") == "p in DIR");
  CHECK(problems_text({"p", "q"}, "DIR") == "2 problems in DIR: p; q");
  const std::string many = problems_text(std::vector<std::string>(23, "p"), "DIR");
  CHECK(many.starts_with("23 problems in DIR: p; "));
  CHECK(many.ends_with("; p; and 3 more"));
}
