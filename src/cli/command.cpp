#include "cli/command.h"

#include <array>

#include "cli/nearest.h"
#include "core/messages.h"

namespace bolide {

std::span<const Command> commands() {
  static constexpr std::array<Command, 14> table{{
      {"generate", "continue a prompt; the text alone goes to standard output", run_generate},
      {"chat", "a conversation at a terminal", run_chat},
      {"batch", "answer every line of a file; --resume goes on after an interruption", run_batch},
      {"perplexity", "how well a model predicts a text", run_perplexity},
      {"tokenize", "text to token ids", run_tokenize},
      {"detokenize", "token ids to text", run_detokenize},
      {"template", "conversations to prompts, by the model's chat template", run_template},
      {"inspect", "what a model is and how much memory it needs", run_inspect},
      {"bench", "prefill and decode speed, against the memory's read bandwidth", run_bench},
      {"profile", "where a step's time goes, op by op", run_profile},
      {"plan", "what fits on this device: context x sequences x KV cache dtype", run_plan},
      {"doctor", "devices, threads, memory, libraries, and what is missing", run_doctor},
      {"completion", "a script that completes flags in bash, zsh or fish", run_completion},
      {"version", "what this binary holds", run_version},
  }};
  return table;
}

std::span<const Command> nested_commands() {
  static constexpr std::array<Command, 2> table{{
      {"bench throughput", "many requests at once or as they arrive: tokens per second and waiting times", run_bench_throughput},
      {"bench ops", "fused ops against the plain way on a GPU", run_bench_ops},
  }};
  return table;
}

const Command& find_command(std::string_view name) {
  std::vector<std::string> names;
  for (const Command& command : commands()) {
    if (command.name == name) return command;
    names.emplace_back(command.name);
  }
  if (!name.empty() && name.front() == '-')
    throw UsageError(fmt::format("{} comes before a command. Flags go after it, as in: bolide generate -m DIR -p TEXT", in_quotes(name)));
  throw UsageError(
      fmt::format("unknown command {}. Did you mean '{}'? 'bolide --help' lists all", in_quotes(name), nearest_name(name, names)));
}

std::string command_text(std::string_view command, const Arguments& arguments) {
  std::string text = fmt::format("bolide {}", command);
  constexpr std::string_view kPlain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_=+.,:/@%";
  for (std::string argument : arguments) {
    if (argument.empty() || argument.find_first_not_of(kPlain) != std::string::npos) {
      for (size_t i = 0; (i = argument.find('\'', i)) != std::string::npos; i += 4) argument.replace(i, 1, "'\\''");
      argument = "'" + argument + "'";
    }
    text += " " + argument;
  }
  return text;
}

std::string program_help() {
  std::string text = "bolide: language model inference from safetensors checkpoints\n\nUsage: bolide COMMAND [FLAGS]\n\nCommands\n";
  for (const Command& command : commands()) text += fmt::format("  {:<12}{}\n", command.name, command.summary);
  text +=
      "\n'bolide COMMAND --help' explains a command's flags; every flag can also be set by an environment\n"
      "variable (--max-tokens by BOLIDE_MAX_TOKENS). 'bolide doctor' tells what it finds on this machine,\n"
      "'bolide --list-devices' the devices alone, 'bolide --version' what this binary holds.\n"
      "\nExample\n  bolide generate -m models/SmolLM2-135M -p \"The sky is\" -n 64\n"
      "\nExit codes: 0 done, 1 failed while running, 2 wrong usage, 3 a batch with failed lines, 4 model\n"
      "missing, corrupt or unsupported, 5 does not fit in memory, 130 interrupted, 143 terminated.\n";
  return text;
}

}  // namespace bolide
