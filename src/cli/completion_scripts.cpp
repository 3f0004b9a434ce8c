#include "cli/completion_scripts.h"

#include <fmt/ranges.h>

#include <algorithm>

#include "core/error.h"

namespace bolide {
namespace {

using Names = std::vector<std::string>;

// What stands before a command, or instead of one.
const Names kProgramFlags{"--help", "--version", "--list-devices"};

std::string joined(const Names& names, const char* separator = " ") { return fmt::format("{}", fmt::join(names, separator)); }

bool is_nested(const CommandFacts& command) { return command.name.find(' ') != std::string::npos; }

void require_plain(const std::vector<CommandFacts>& commands) {
  constexpr const char* kQuoting = "'\"\\$`\n";
  for (const CommandFacts& command : commands) {
    BOLIDE_CHECK(command.name.find_first_of(kQuoting) == std::string::npos);
    for (const FlagFacts& flag : command.flags)
      BOLIDE_CHECK((joined(flag.spellings) + joined(flag.choices)).find_first_of(kQuoting) == std::string::npos);
  }
}

// Between single quotes; `escaped`: how the shell writes one inside.
std::string quoted(const std::string& text, const char* escaped) {
  std::string out = "'";
  for (const char c : text) c == '\'' ? out += escaped : out += c;
  return out + "'";
}

Names first_words(const std::vector<CommandFacts>& commands) {
  Names names;
  for (const CommandFacts& command : commands) {
    if (!is_nested(command)) names.push_back(command.name);
  }
  names.emplace_back("help");
  return names;
}

// Second words of "bench ops" and the like, by their first one.
Names second_words(const std::vector<CommandFacts>& commands, const std::string& first) {
  Names names;
  for (const CommandFacts& command : commands) {
    if (command.name.starts_with(first + " ")) names.push_back(command.name.substr(first.size() + 1));
  }
  return names;
}

Names offered(const CommandFacts& command) {
  Names names;
  for (const FlagFacts& flag : command.flags) names.insert(names.end(), flag.offered.begin(), flag.offered.end());
  return names;
}

// Branches of a case over "COMMAND FLAG", in the form that bash and zsh share: choices, then what takes a file.
std::string value_branches(const std::vector<CommandFacts>& commands, const char* words, const char* files) {
  std::string text;
  for (const CommandFacts& command : commands) {
    const auto pattern = [&](const FlagFacts& flag) {
      Names patterns;
      for (const std::string& spelling : flag.spellings) patterns.push_back(fmt::format("\"{} {}\"", command.name, spelling));
      return joined(patterns, "|");
    };
    Names free;
    for (const FlagFacts& flag : command.flags) {
      if (!flag.takes_value) continue;
      if (flag.choices.empty())
        free.push_back(pattern(flag));
      else
        text += fmt::format("    {}) {} ;;\n", pattern(flag), fmt::format(fmt::runtime(words), joined(flag.choices)));
    }
    if (!free.empty()) text += fmt::format("    {}) {} ;;\n", joined(free, "|"), files);
  }
  return text;
}

std::string flag_branches(const std::vector<CommandFacts>& commands, const char* form) {
  std::string text;
  for (const CommandFacts& command : commands) {
    Names words = is_nested(command) ? Names{} : second_words(commands, command.name);
    const Names flags = offered(command);
    words.insert(words.end(), flags.begin(), flags.end());
    text += fmt::format("    \"{}\") {} ;;\n", command.name, fmt::format(fmt::runtime(form), joined(words)));
  }
  return text;
}

Names nested_names(const std::vector<CommandFacts>& commands) {
  Names names;
  for (const CommandFacts& command : commands) {
    if (is_nested(command)) names.push_back("\"" + command.name + "\"");
  }
  return names;
}

}  // namespace

std::string bash_completion(const std::vector<CommandFacts>& commands) {
  require_plain(commands);
  return R"(# Completion of bolide for bash. For this shell: source <(bolide completion bash)
# For every shell: bolide completion bash > ~/.local/share/bash-completion/completions/bolide
_bolide() {
  local current=${COMP_WORDS[COMP_CWORD]} command=${COMP_WORDS[1]} flag= words=
  COMPREPLY=()
  if ((COMP_CWORD == 1)); then
    mapfile -t COMPREPLY < <(compgen -W ")" +
         joined(first_words(commands)) + " " + joined(kProgramFlags) + R"(" -- "$current")
    return
  fi
  if ((COMP_CWORD > 2)); then
    case "$command ${COMP_WORDS[2]}" in
      )" +
         joined(nested_names(commands), "|") + R"() command="$command ${COMP_WORDS[2]}" ;;
    esac
  fi
  # The shell cuts --flag=value into three words.
  if [[ $current == "=" ]]; then
    current=
    flag=${COMP_WORDS[COMP_CWORD-1]}
  elif [[ ${COMP_WORDS[COMP_CWORD-1]} == "=" ]]; then
    flag=${COMP_WORDS[COMP_CWORD-2]}
  else
    flag=${COMP_WORDS[COMP_CWORD-1]}
  fi
  case "$command ${flag//_/-}" in
)" + value_branches(commands, "words=\"{}\"", "return") +
         R"(  esac
  if [[ -z $words ]]; then
    case "$command" in
    help) words=")" +
         joined(first_words(commands)) + R"(" ;;
)" + flag_branches(commands, "words=\"{}\"") +
         R"(    esac
  fi
  mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
}
# Where it proposes nothing, files are.
complete -o default -F _bolide bolide
)";
}

std::string zsh_completion(const std::vector<CommandFacts>& commands) {
  require_plain(commands);
  std::string described;
  for (const CommandFacts& command : commands) {
    if (!is_nested(command)) described += "      " + quoted(command.name + ":" + command.summary, "'\\''") + "\n";
  }
  return R"(#compdef bolide
# Completion of bolide for zsh. For this shell: source <(bolide completion zsh)
# For every shell: bolide completion zsh > _bolide, in a folder of $fpath
_bolide() {
  local command=$words[2] flag=$words[CURRENT-1]
  if ((CURRENT == 2)); then
    local -a commands
    commands=(
)" + described +
         R"(      'help:explains a command'
    )
    _describe command commands
    compadd -- )" +
         joined(kProgramFlags) + R"(
    return
  fi
  if ((CURRENT > 3)); then
    case "$command $words[3]" in
      )" +
         joined(nested_names(commands), "|") + R"() command="$command $words[3]" ;;
    esac
  fi
  if [[ $words[CURRENT] == --*=* ]]; then
    flag=${words[CURRENT]%%=*}
    compset -P '*='
  fi
  case "$command ${flag//_/-}" in
)" + value_branches(commands, "compadd -- {}; return", "_files; return") +
         R"(  esac
  case "$command" in
    help) compadd -- )" +
         joined(first_words(commands)) + R"( ;;
)" + flag_branches(commands, "compadd -- {}") +
         R"(  esac
  # A word that is no flag may be a file.
  [[ $words[CURRENT] == -* ]] || _files
}
if [[ $funcstack[1] == _bolide ]]; then
  _bolide "$@"
else
  compdef _bolide bolide
fi
)";
}

std::string fish_completion(const std::vector<CommandFacts>& commands) {
  require_plain(commands);
  Names nested;
  for (const std::string& name : nested_names(commands)) nested.push_back(name);
  std::string text = R"(# Completion of bolide for fish. For this shell: bolide completion fish | source
# For every shell: bolide completion fish > ~/.config/fish/completions/bolide.fish
function __bolide_command
    set -l words (commandline -opc)
    switch "$words[2] $words[3]"
        case )" + joined(nested) +
                     R"(
            echo "$words[2] $words[3]"
        case '*'
            echo "$words[2]"
    end
end
complete -c bolide -e
)";
  for (const CommandFacts& command : commands) {
    if (!is_nested(command)) {
      text +=
          fmt::format("complete -c bolide -n 'test -z (__bolide_command)' -f -a {} -d {}\n", command.name, quoted(command.summary, "\\'"));
      continue;
    }
    const size_t blank = command.name.find(' ');
    text += fmt::format("complete -c bolide -n 'test (__bolide_command) = {}' -a {} -d {}\n", command.name.substr(0, blank),
                        command.name.substr(blank + 1), quoted(command.summary, "\\'"));
  }
  text += fmt::format("complete -c bolide -n 'test -z (__bolide_command)' -f -a 'help {}'\n", joined(kProgramFlags));
  text += fmt::format("complete -c bolide -n 'test (__bolide_command) = help' -f -a '{}'\n", joined(first_words(commands)));
  for (const CommandFacts& command : commands) {
    for (const FlagFacts& flag : command.flags) {
      std::string line = fmt::format("complete -c bolide -n 'test (__bolide_command) = \"{}\"'", command.name);
      for (const std::string& name : flag.offered) {
        const bool is_long = name.starts_with("--");
        line += fmt::format(" -{} {}", is_long ? "l" : name.size() == 2 ? "s" : "o", name.substr(is_long ? 2 : 1));
      }
      if (flag.takes_value) line += flag.choices.empty() ? " -r -F" : fmt::format(" -x -a '{}'", joined(flag.choices));
      text += line + "\n";
    }
  }
  return text;
}

}  // namespace bolide
