#include "text/post_processor.h"

namespace bolide {
namespace {

// "single": a list of {"SpecialToken": {"id": name}} around {"Sequence": {"id": "A"}}; "special_tokens" gives a name's ids.
PostProcessor parse_template(const JsonNode& node) {
  PostProcessor out;
  bool seen_text = false;
  for (const JsonNode& item : node.at("single").elements()) {
    if (item.has("Sequence")) {
      if (seen_text || item.at("Sequence").string("id") != "A") item.fail("is not the one sequence 'A' that a single text has");
      seen_text = true;
      continue;
    }
    const std::string name = item.at("SpecialToken").string("id");
    const JsonNode special = node.at("special_tokens").at(name);
    for (const JsonNode& id : special.at("ids").elements()) (seen_text ? out.suffix : out.prefix).push_back(id.as_token_id());
  }
  if (!seen_text) node.at("single").fail("has no sequence 'A'");
  return out;
}

// ["<s>", 0]
int32_t parse_pair(const JsonNode& node) {
  const std::vector<JsonNode> pair = node.elements();
  if (pair.size() != 2) node.fail("is not a pair of a token and its id");
  return pair[1].as_token_id();
}

}  // namespace

PostProcessor parse_post_processor(const JsonNode& node) {
  const std::string type = node.type();
  if (type == "ByteLevel") return {};
  if (type == "TemplateProcessing") return parse_template(node);
  if (type == "BertProcessing" || type == "RobertaProcessing") return {{parse_pair(node.at("cls"))}, {parse_pair(node.at("sep"))}};
  if (type == "Sequence") {
    PostProcessor out;
    for (const JsonNode& step : node.at("processors").elements()) {
      const PostProcessor outer = parse_post_processor(step);
      out.prefix.insert(out.prefix.begin(), outer.prefix.begin(), outer.prefix.end());
      out.suffix.insert(out.suffix.end(), outer.suffix.begin(), outer.suffix.end());
    }
    return out;
  }
  node.unsupported_type({"ByteLevel", "TemplateProcessing", "BertProcessing", "RobertaProcessing", "Sequence"});
}

}  // namespace bolide
