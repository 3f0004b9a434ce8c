// A deterministic mutation driver for fuzz targets, so that they run with any compiler, in ctest and under sanitizers. A target is the
// function that libFuzzer also calls (https://llvm.org/docs/LibFuzzer.html); with -DBOLIDE_FUZZ=ON libFuzzer takes this file's place.
//
// First every seed runs as it is, then mutants of them. Mutant i depends on (--seed, i, the seed files) alone, so that any finding is
// repeated by --seed S --first I --runs 1. An input that crashes, hangs, or leaves the process too large is written to --artifacts.
// Exit status: 0 nothing found, 1 finding, 2 usage.
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>
#include <vector>

#include "fuzz/mutator.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);
// Present when a sanitizer is linked in: called before it ends the process.
extern "C" __attribute__((weak)) void __sanitizer_set_death_callback(void (*callback)());
extern "C" __attribute__((weak)) void __sanitizer_print_stack_trace();

namespace bolide::fuzz {
namespace {

struct Options {
  uint64_t seed = 1;
  uint64_t first = 0;       // number of the first mutant
  uint64_t runs = 20000;    // mutants at most
  double seconds = 0;       // time for the mutants; 0 = no limit
  size_t max_bytes = 4096;  // size of a mutant at most
  unsigned timeout = 20;    // seconds of processor time for one input; of waiting, kWaitFactor times as many
  long max_rss_mib = 2048;  // resident memory of the process
  std::filesystem::path artifacts = ".";
  std::vector<std::filesystem::path> inputs;  // files, or folders of files
};

// A busy machine may keep a process from running for long, so real time says little; it is limited only to end a deadlock.
constexpr unsigned kWaitFactor = 10;

// What the handlers need, prepared in advance: nothing there may allocate.
std::string g_input;
std::array<char, 4096> g_artifact_path{};
std::array<char, 256> g_description{};

void write_all(int file, const char* data, size_t size) {
  while (size > 0) {
    const ssize_t written = ::write(file, data, size);
    if (written <= 0) return;
    data += written;
    size -= static_cast<size_t>(written);
  }
}
void print_error(std::string_view text) { write_all(STDERR_FILENO, text.data(), text.size()); }

// Writes the current input to its file. Async-signal-safe.
void save_input(std::string_view what) {
  print_error("\nfuzz: ");
  print_error(what);
  print_error(" with ");
  print_error(g_description.data());
  print_error("; the input is in ");
  print_error(g_artifact_path.data());
  print_error("\n");
  const int file = ::open(g_artifact_path.data(), O_WRONLY | O_CREAT | O_TRUNC, 0644);
  if (file < 0) {
    print_error("fuzz: that file could not be written\n");
    return;
  }
  write_all(file, g_input.data(), g_input.size());
  ::close(file);
}

void on_death() { save_input("a sanitizer's finding"); }
void on_alarm(int) {
  save_input("time limit");
  // Not safe in a handler, but the process is lost anyway, and what it hangs in is what one wants to know.
  if (__sanitizer_print_stack_trace != nullptr) __sanitizer_print_stack_trace();
  _exit(1);
}
void on_crash(int signal_number) {
  save_input("a crash");
  std::signal(signal_number, SIG_DFL);
  std::raise(signal_number);
}

// Seconds of processor time from now until on_alarm; 0 = no limit.
void set_time_limit(unsigned seconds) {
  itimerval timer{};
  timer.it_value.tv_sec = static_cast<time_t>(seconds);
  ::setitimer(ITIMER_PROF, &timer, nullptr);
  ::alarm(kWaitFactor * seconds);
}

void install_handlers() {
  std::signal(SIGPROF, on_alarm);
  std::signal(SIGALRM, on_alarm);
  if (__sanitizer_set_death_callback != nullptr) {
    __sanitizer_set_death_callback(on_death);
    std::signal(SIGABRT, on_crash);  // an exception that left the target; sanitizers handle the other signals
    return;
  }
  for (const int signal_number : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT}) std::signal(signal_number, on_crash);
}

[[noreturn]] void usage_error(const std::string& message) {
  std::fprintf(stderr,
               "error: %s\nusage: FUZZ_TARGET [--seed N] [--first N] [--runs N] [--seconds S] [--max-bytes N] [--timeout S]\n"
               "                   [--max-rss-mib N] [--artifacts FOLDER] FILE_OR_FOLDER...\n",
               message.c_str());
  std::exit(2);
}

uint64_t parse_number(std::string_view flag, const char* text) {
  char* end = nullptr;
  errno = 0;
  const uint64_t value = std::strtoull(text, &end, 10);
  if (end == text || *end != '\0' || errno != 0 || *text == '-')
    usage_error(std::string(flag) + " needs a whole number, not '" + text + "'");
  return value;
}

Options parse_options(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string_view flag = argv[i];
    if (!flag.starts_with("--")) {
      options.inputs.emplace_back(argv[i]);
      continue;
    }
    if (i + 1 == argc) usage_error(std::string(flag) + " needs a value");
    const char* value = argv[++i];
    if (flag == "--artifacts") {
      options.artifacts = value;
    } else if (flag == "--seed") {
      options.seed = parse_number(flag, value);
    } else if (flag == "--first") {
      options.first = parse_number(flag, value);
    } else if (flag == "--runs") {
      options.runs = parse_number(flag, value);
    } else if (flag == "--seconds") {
      options.seconds = static_cast<double>(parse_number(flag, value));
    } else if (flag == "--max-bytes") {
      options.max_bytes = std::max<size_t>(1, parse_number(flag, value));
    } else if (flag == "--timeout") {
      options.timeout = static_cast<unsigned>(parse_number(flag, value));
    } else if (flag == "--max-rss-mib") {
      options.max_rss_mib = static_cast<long>(parse_number(flag, value));
    } else {
      usage_error("unknown flag " + std::string(flag));
    }
  }
  if (options.inputs.empty()) usage_error("no seeds: name a file or a folder of files");
  return options;
}

struct Seed {
  std::string name;
  std::string bytes;
};

// Seeds sorted by name, because the order in which a folder lists its files differs between machines.
std::vector<Seed> read_seeds(const std::vector<std::filesystem::path>& inputs) {
  std::vector<std::filesystem::path> files;
  for (const auto& input : inputs) {
    if (std::filesystem::is_directory(input)) {
      for (const auto& entry : std::filesystem::recursive_directory_iterator(input)) {
        if (entry.is_regular_file()) files.push_back(entry.path());
      }
    } else {
      files.push_back(input);
    }
  }
  std::sort(files.begin(), files.end());
  std::vector<Seed> seeds;
  for (const auto& file : files) {
    std::ifstream stream(file, std::ios::binary);
    if (!stream) usage_error("cannot read the seed " + file.string());
    seeds.push_back({file.filename().string(), {std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>()}});
  }
  if (seeds.empty()) usage_error("no seeds in " + inputs.front().string());
  return seeds;
}

class Runner {
 public:
  explicit Runner(const Options& options) : options_(options) {}

  // Runs the target on the input; ends the process if the input took too much time or memory.
  void run(std::string input, const std::string& name, const std::string& description) {
    g_input = std::move(input);
    std::snprintf(g_artifact_path.data(), g_artifact_path.size(), "%s", (options_.artifacts / ("finding-" + name)).c_str());
    std::snprintf(g_description.data(), g_description.size(), "%s", description.c_str());
    set_time_limit(options_.timeout);
    // A copy of exactly that size on the heap, so that AddressSanitizer sees a read past the end.
    const std::vector<uint8_t> bytes(g_input.begin(), g_input.end());
    LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
    set_time_limit(0);
    rusage usage{};
    ::getrusage(RUSAGE_SELF, &usage);
    if (usage.ru_maxrss / 1024 > options_.max_rss_mib) {
      save_input("memory limit");
      std::exit(1);
    }
    for (const uint8_t byte : bytes) digest_ = (digest_ ^ byte) * 0x100000001b3ull;  // FNV-1a
    digest_ = (digest_ ^ 0x100) * 0x100000001b3ull;
    ++count_;
  }

  uint64_t count() const { return count_; }
  uint64_t digest() const { return digest_; }

 private:
  const Options& options_;
  uint64_t count_ = 0;
  uint64_t digest_ = 0xcbf29ce484222325ull;
};

int run_all(const Options& options) {
  const std::vector<Seed> seeds = read_seeds(options.inputs);
  std::vector<std::string> corpus;
  for (const Seed& seed : seeds) corpus.push_back(seed.bytes);
  install_handlers();

  Runner runner(options);
  for (const Seed& seed : seeds) runner.run(seed.bytes, seed.name, "seed file " + seed.name);
  const auto start = std::chrono::steady_clock::now();
  const auto out_of_time = [&] {
    return options.seconds > 0 && std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() > options.seconds;
  };
  const std::string repeat = "--seed " + std::to_string(options.seed) + " --runs 1 --first ";
  for (uint64_t i = 0; i < options.runs && !out_of_time(); ++i) {
    const std::string number = std::to_string(options.first + i);
    runner.run(mutate(corpus, options.seed, options.first + i, options.max_bytes), std::to_string(options.seed) + "-" + number,
               "a mutant, repeated by " + repeat + number);
  }
  std::printf("fuzz: %llu inputs from %zu seeds, digest %016llx, nothing found\n", static_cast<unsigned long long>(runner.count()),
              seeds.size(), static_cast<unsigned long long>(runner.digest()));
  return 0;
}

}  // namespace
}  // namespace bolide::fuzz

int main(int argc, char** argv) { return bolide::fuzz::run_all(bolide::fuzz::parse_options(argc, argv)); }
