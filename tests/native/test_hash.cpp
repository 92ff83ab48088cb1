#include <fastslm/download.hpp>
#include <fastslm/hash.hpp>

#include "check.hpp"
#include "samples.hpp"

namespace {

using fastslm::crc32;
using fastslm::HashAlgorithm;
using fastslm::Hasher;

std::string hash(HashAlgorithm algorithm, std::string_view text) {
  Hasher hasher(algorithm, text.size());
  hasher.update(bytes_of(text));
  return hasher.finish();
}

// FIPS 180-4 examples; the git values are what `git hash-object` prints.
void known_values() {
  CHECK_EQUAL(hash(HashAlgorithm::sha256, "abc"),
              "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  CHECK_EQUAL(hash(HashAlgorithm::sha256, ""),
              "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  CHECK_EQUAL(hash(HashAlgorithm::git_sha1, ""), "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391");
  CHECK_EQUAL(hash(HashAlgorithm::git_sha1, "hello\n"), "ce013625030ba8dba906f756967f9e9ca394464a");
  CHECK_EQUAL(crc32(bytes_of("123456789")), 0xCBF43926U);
}

void pieces_give_the_same_as_the_whole() {
  const std::string text = random_text(100'000);
  Hasher hasher(HashAlgorithm::sha256, text.size());
  for (std::size_t at = 0, step = 1; at < text.size(); at += step, step = step * 3 + 1) {
    hasher.update(bytes_of(std::string_view(text).substr(at, step)));
  }
  CHECK_EQUAL(hasher.finish(), hash(HashAlgorithm::sha256, text));
}

void a_saved_hash_goes_on_where_it_was() {
  const std::string text = random_text(1000);
  for (const auto algorithm : {HashAlgorithm::sha256, HashAlgorithm::git_sha1}) {
    for (const std::size_t cut : {0U, 1U, 55U, 63U, 64U, 65U, 500U, 1000U}) {
      Hasher first(algorithm, text.size());
      first.update(bytes_of(text).first(cut));
      auto second = Hasher::restore(algorithm, first.save());
      CHECK(second.has_value());
      second->update(bytes_of(text).subspan(cut));
      CHECK_EQUAL(second->finish(), hash(algorithm, text));
      const std::string state = first.save();
      CHECK(!Hasher::restore(algorithm, std::string_view(state).substr(0, state.size() - 1)));
      CHECK(!Hasher::restore(algorithm, state + "x"));
    }
    CHECK(!Hasher::restore(algorithm, ""));
  }
}

void a_file_is_hashed_whole() {
  const check::TemporaryFolder folder;
  const std::string text = random_text((1U << 20U) + 17);
  write_text(folder.file("f"), text);
  CHECK_EQUAL(fastslm::hash_file(folder.file("f"), HashAlgorithm::sha256), hash(HashAlgorithm::sha256, text));
  CHECK_EQUAL(fastslm::hash_file(folder.file("f"), HashAlgorithm::git_sha1),
              hash(HashAlgorithm::git_sha1, text));
  CHECK_ERROR(file_system, fastslm::hash_file(folder.file("none"), HashAlgorithm::sha256));
}

}  // namespace

int main() {
  return check::run({{"known values", known_values},
                     {"pieces give the same as the whole", pieces_give_the_same_as_the_whole},
                     {"a saved hash goes on where it was", a_saved_hash_goes_on_where_it_was},
                     {"a file is hashed whole", a_file_is_hashed_whole}});
}
