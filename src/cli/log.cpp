#include "cli/log.h"

#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include "cli/streams.h"
#include "core/error.h"
#include "text/utf8.h"

namespace bolide {
namespace {

// Notes stand alone; warnings, errors and debug lines begin with their level.
class Label final : public spdlog::custom_flag_formatter {
 public:
  explicit Label(bool color) : color_(color) {}
  void format(const spdlog::details::log_msg& message, const std::tm&, spdlog::memory_buf_t& out) override {
    const auto put = [&](std::string_view color, std::string_view text) {
      const std::string label = color_ ? fmt::format("\x1b[{}m{}\x1b[0m", color, text) : std::string(text);
      out.append(label.data(), label.data() + label.size());
    };
    if (message.level >= spdlog::level::err)
      put("31", "error: ");
    else if (message.level == spdlog::level::warn)
      put("33", "warning: ");
    else if (message.level <= spdlog::level::debug)
      put("2", "debug: ");
  }
  std::unique_ptr<custom_flag_formatter> clone() const override { return std::make_unique<Label>(color_); }

 private:
  bool color_;
};

spdlog::level::level_enum level_of(const std::string& name) {
  if (name == "trace") return spdlog::level::trace;
  if (name == "debug") return spdlog::level::debug;
  if (name == "warning") return spdlog::level::warn;
  if (name == "error") return spdlog::level::err;
  return spdlog::level::info;
}

spdlog::level::level_enum level_of(LogLevel level) {
  switch (level) {
    case LogLevel::debug:
      return spdlog::level::debug;
    case LogLevel::warning:
      return spdlog::level::warn;
    default:
      return spdlog::level::info;
  }
}

}  // namespace

void start_logging(const LogOptions& options) {
  auto console = std::make_shared<spdlog::sinks::stderr_sink_mt>();
  auto pattern = std::make_unique<spdlog::pattern_formatter>();
  pattern->add_flag<Label>('*', use_color(options.color, STDERR_FILENO)).set_pattern("%*%v");
  console->set_formatter(std::move(pattern));
  auto logger = std::make_shared<spdlog::logger>("bolide", console);
  if (!options.file.empty()) {
    try {
      auto file = std::make_shared<spdlog::sinks::basic_file_sink_mt>(options.file);
      file->set_pattern("%Y-%m-%dT%H:%M:%S.%e%z %l %v");
      logger->sinks().push_back(std::move(file));
    } catch (const spdlog::spdlog_ex& error) {
      throw UsageError(fmt::format("--log-file: {}", error.what()));
    }
  }
  logger->set_level(level_of(options.level));
  logger->flush_on(spdlog::level::trace);
  // A log that cannot be written (standard error closed, disk full) must not fill standard error or stop the work.
  logger->set_error_handler([](const std::string&) {});
  spdlog::set_default_logger(std::move(logger));
}

void write_log(LogLevel level, fmt::string_view format, fmt::format_args arguments) {
  if (spdlog::should_log(level_of(level))) spdlog::log(level_of(level), fmt::vformat(format, arguments));
}

std::string one_line(const std::string& text) {
  std::string line;
  for (const char c : utf8_lossy(text)) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7f)
      line += fmt::format("\\x{:02x}", byte);
    else
      line += c;
  }
  return line;
}

void report_error(const std::string& text) { spdlog::error(one_line(text)); }

}  // namespace bolide
