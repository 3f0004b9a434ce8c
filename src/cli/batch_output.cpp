#include "cli/batch_output.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>

#include "cli/batch_lines.h"
#include "cli/batch_scan.h"
#include "cli/json.h"
#include "core/error.h"
#include "core/messages.h"

namespace bolide {
namespace {

constexpr size_t kMaxRecord = size_t{1} << 30;  // bytes
constexpr double kSyncSeconds = 1.0;

[[noreturn]] void throw_system(const char* what, const std::string& path, int reason) {
  throw Error(fmt::format("cannot {} {}: {}", what, path == "-" ? "standard output" : in_quotes(path), std::strerror(reason)));
}

struct Record {
  int64_t line;
  bool failed;
  RunIdentity run;
};

std::optional<uint64_t> hex_number(const Json& value) {
  if (!value.is_string()) return std::nullopt;
  const auto& text = value.get_ref<const std::string&>();
  uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number, 16);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

// Nothing when the text is no record of a batch.
std::optional<Record> parse_record(const std::string& text) {
  const Json object = Json::parse(text, nullptr, false);
  if (!object.is_object() || !object.contains("line") || !object.contains("run") || !object.contains("response")) return std::nullopt;
  const Json &line = object["line"], &run = object["run"], &response = object["response"];
  if (!line.is_number_unsigned() || !run.is_object() || !run.contains("input") || !run.contains("settings") || !run.contains("seed"))
    return std::nullopt;
  const auto input = hex_number(run["input"]), settings = hex_number(run["settings"]);
  if (!input || !settings || !run["seed"].is_number_unsigned()) return std::nullopt;
  const bool answered = response.is_object() && response.contains("status_code") && response["status_code"] == 200;
  return Record{line.get<int64_t>(), !answered, {*input, *settings, run["seed"].get<uint64_t>()}};
}

// Whether the last bytes of a file can be the beginning of a record whose writer was stopped (after a crash of the whole machine, also
// zeros that a file system put there). What is anything else belongs to someone.
bool can_be_torn(std::string_view text) {
  static constexpr std::string_view head = R"({"id":"batch_req_)";
  const size_t n = std::min(head.size(), text.size());
  return text.substr(0, n) == head.substr(0, n) || text.find_first_not_of('\0') == std::string_view::npos;
}

void add_record(const Record& record, FinishedLines& finished) {
  const auto at = static_cast<size_t>(record.line);
  if (at >= finished.lines.size() || finished.lines[at]) return;
  finished.lines[at] = true;
  ++finished.count;
  if (!record.failed) return;
  ++finished.failed;
  if (finished.failed_lines.size() < kMaxListedLines) finished.failed_lines.push_back(record.line);
}

}  // namespace

bool same_file(const std::string& a, const std::string& b) {
  struct stat first {
  }, second{};
  return stat(a.c_str(), &first) == 0 && stat(b.c_str(), &second) == 0 && first.st_dev == second.st_dev && first.st_ino == second.st_ino;
}

BatchOutput::BatchOutput(std::string path) : path_(std::move(path)) {
  if (path_ == "-") {
    fd_ = STDOUT_FILENO;
    return;
  }
  created_ = access(path_.c_str(), F_OK) != 0;
  fd_ = open(path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  if (fd_ < 0) throw_system("write to", path_, errno);
  struct stat status {};
  regular_ = fstat(fd_, &status) == 0 && S_ISREG(status.st_mode);
  if (regular_ && flock(fd_, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
    close(fd_);
    throw UsageError(fmt::format("another batch is writing to {}. Wait for it, or name another file", in_quotes(path_)));
  }
}

BatchOutput::~BatchOutput() {
  // A run that failed before its first record leaves no empty file behind.
  if (created_ && regular_ && size() == 0) unlink(path_.c_str());
  if (fd_ >= 0 && fd_ != STDOUT_FILENO) close(fd_);
}

int64_t BatchOutput::size() const {
  struct stat status {};
  return regular_ && fstat(fd_, &status) == 0 ? static_cast<int64_t>(status.st_size) : 0;
}

void BatchOutput::read_finished(FinishedLines& finished) {
  BatchLines lines(path_, kMaxRecord);
  std::string text;
  std::optional<int64_t> broken;  // number of a line that is no record: allowed as the last one only
  whole_ = 0;
  while (!broken && lines.next(text)) {
    const std::optional<Record> record = parse_record(text);
    if (!record || !lines.terminated()) {
      broken = lines.number();
      continue;
    }
    if (finished.run && *finished.run != record->run)
      throw UsageError(
          fmt::format("{} line {} comes from another input or other settings than the records before it, so --resume cannot "
                      "go on from it. --overwrite replaces the file",
                      in_quotes(path_), lines.number()));
    finished.run = record->run;
    add_record(*record, finished);
    whole_ = lines.end();
  }
  if (broken && (!can_be_torn(text) || lines.next(text)))
    throw UsageError(fmt::format("{} line {} is no record of a batch, so --resume cannot go on from it. --overwrite replaces the file",
                                 in_quotes(path_), *broken));
  torn_bytes_ = size() - whole_;
}

void BatchOutput::drop_torn() {
  if (torn_bytes_ > 0 && ftruncate(fd_, whole_) != 0) throw_system("cut the torn end of", path_, errno);
  torn_bytes_ = 0;
}

void BatchOutput::clear() {
  if (regular_ && ftruncate(fd_, 0) != 0) throw_system("empty", path_, errno);
}

void BatchOutput::append(std::string_view record) {
  while (!record.empty() && !reader_gone_) {
    const ssize_t n = ::write(fd_, record.data(), record.size());
    if (n >= 0) {
      record.remove_prefix(static_cast<size_t>(n));
    } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
      pollfd wait{fd_, POLLOUT, 0};
      poll(&wait, 1, -1);
    } else if (errno == EPIPE) {
      reader_gone_ = true;
    } else if (errno != EINTR) {
      throw_system("write to", path_, errno);
    }
  }
  dirty_ = true;
}

void BatchOutput::sync(std::optional<Clock::time_point> now) {
  if (!dirty_ || !regular_ || (now && seconds_between(synced_, *now) < kSyncSeconds)) return;
  if (fsync(fd_) != 0 && errno != EINVAL) throw_system("write to", path_, errno);
  dirty_ = false;
  synced_ = now.value_or(Clock::now());
}

}  // namespace bolide
