// Logs, notes and warnings go to standard error (and a file on request) through spdlog; standard output is for results alone.
#pragma once

#include <fmt/format.h>

#include <string>

namespace bolide {

struct LogOptions {
  std::string level = "info";  // error, warning, info, debug, trace; notes and statistics are info
  std::string file;            // appended to, with time stamps
  std::string color = "auto";  // auto, always, never
};

// Replaces spdlog's default logger. Throws UsageError when the file cannot be opened.
void start_logging(const LogOptions& options);

// Format strings and arguments as fmt::format takes them. Nothing is formatted where the level is off. The formatting itself is compiled
// once: spdlog's own functions leave a copy of all of fmt in every file that logs, which is half of such a file's compile time.
enum class LogLevel { debug, info, warning };
void write_log(LogLevel level, fmt::string_view format, fmt::format_args arguments);

template <typename... Arguments>
void log_debug(fmt::format_string<Arguments...> format, Arguments&&... arguments) {
  write_log(LogLevel::debug, format, fmt::make_format_args(arguments...));
}
template <typename... Arguments>
void log_info(fmt::format_string<Arguments...> format, Arguments&&... arguments) {
  write_log(LogLevel::info, format, fmt::make_format_args(arguments...));
}
template <typename... Arguments>
void log_warning(fmt::format_string<Arguments...> format, Arguments&&... arguments) {
  write_log(LogLevel::warning, format, fmt::make_format_args(arguments...));
}

// What messages quote of files and arguments may hold anything: as one line of valid UTF-8 without control characters.
std::string one_line(const std::string& text);

// One `error: ...` line on standard error, whatever the level, and in the log file.
void report_error(const std::string& text);

}  // namespace bolide
