// Logs, notes and warnings go to standard error (and a file on request) through spdlog; standard output is for results alone.
#pragma once

#include <string>

namespace bolide {

struct LogOptions {
  std::string level = "info";  // error, warning, info, debug, trace; notes and statistics are info
  std::string file;            // appended to, with time stamps
  std::string color = "auto";  // auto, always, never
};

// Replaces spdlog's default logger. Throws UsageError when the file cannot be opened.
void start_logging(const LogOptions& options);

// What messages quote of files and arguments may hold anything: as one line of valid UTF-8 without control characters.
std::string one_line(const std::string& text);

// One `error: ...` line on standard error, whatever the level, and in the log file.
void report_error(const std::string& text);

}  // namespace bolide
