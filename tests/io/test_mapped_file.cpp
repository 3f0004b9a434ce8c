#include <sys/stat.h>

#include "catch.h"
#include "caught.h"
#include "checkpoint_files.h"
#include "io/mapped_file.h"

using namespace bolide;

TEST_CASE("a mapped file shows its bytes and survives moves") {
  const TemporaryFolder folder;
  folder.write("f", "hello");
  MappedFile file(folder.path() / "f");
  MappedFile moved(std::move(file));
  CHECK(file.bytes().empty());
  CHECK(moved.bytes().size() == 5);
  CHECK(static_cast<char>(moved.bytes()[4]) == 'o');
  folder.write("g", "other file");
  MappedFile other(folder.path() / "g");
  other = std::move(moved);
  CHECK(other.bytes().size() == 5);
  CHECK(other.path() == folder.path() / "f");
}

TEST_CASE("an address tells the mapped file it lies in") {
  const TemporaryFolder folder;
  folder.write("f", "hello");
  const std::byte* data = nullptr;
  {
    MappedFile first(folder.path() / "f");
    const MappedFile file(std::move(first));
    data = file.bytes().data();
    CHECK(mapped_path_at(data) == folder.text() + "/f");
    CHECK(mapped_path_at(data + 4) == folder.text() + "/f");
    CHECK(mapped_path_at(data + 5) == nullptr);
    CHECK(mapped_path_at(data - 1) == nullptr);
  }
  CHECK(mapped_path_at(data) == nullptr);
}

TEST_CASE("an empty file maps to nothing") {
  const TemporaryFolder folder;
  folder.write("empty", "");
  CHECK(MappedFile(folder.path() / "empty").bytes().empty());
}

TEST_CASE("what is no readable file is an error of the model") {
  const TemporaryFolder folder;
  const Caught absent = caught([&] { MappedFile(folder.path() / "absent"); });
  CHECK(absent.text == "cannot open " + folder.text() + "/absent: No such file or directory");
  CHECK(absent.code == ExitCode::model);
  CHECK(caught([&] { MappedFile(folder.path().c_str()); }).text == folder.text() + " is not a regular file");
  const std::string fifo = folder.text() + "/fifo";
  REQUIRE(::mkfifo(fifo.c_str(), 0600) == 0);
  CHECK(caught([&] { MappedFile{fifo}; }).text == fifo + " is not a regular file");  // and does not wait for a writer
}
