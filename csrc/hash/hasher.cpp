// OpenSSL's older interface, because only it lets a hash be saved in the middle; the code behind is the same.
#define OPENSSL_SUPPRESS_DEPRECATED
#include <array>

#include <openssl/sha.h>

#include <fastslm/error.hpp>
#include <fastslm/hash.hpp>

namespace fastslm {
namespace {

constexpr std::size_t kBlock = 64;  // bytes of both algorithms

void require(int worked) {
  if (worked != 1) throw Error(ErrorCode::internal, "OpenSSL could not compute a hash");
}

std::string hex(std::span<const unsigned char> digest) {
  constexpr char digits[] = "0123456789abcdef";
  std::string text;
  for (const unsigned char byte : digest) {
    text += digits[byte >> 4U];
    text += digits[byte & 15U];
  }
  return text;
}

void put(std::string& text, std::uint64_t value, unsigned bytes) {
  for (unsigned i = 0; i < bytes; ++i) text += static_cast<char>(value >> (8 * i) & 255U);
}

std::uint64_t get(std::string_view& text, unsigned bytes) {
  std::uint64_t value = 0;
  for (unsigned i = 0; i < bytes; ++i) value |= std::uint64_t{static_cast<unsigned char>(text[i])} << (8 * i);
  text.remove_prefix(bytes);
  return value;
}

}  // namespace

// Both contexts hold chaining words, the number of bits and the bytes of an unfinished block.
struct Hasher::State {
  SHA256_CTX sha256{};
  SHA_CTX sha1{};

  std::array<SHA_LONG*, 5> words1() { return {&sha1.h0, &sha1.h1, &sha1.h2, &sha1.h3, &sha1.h4}; }
};

Hasher::Hasher(HashAlgorithm algorithm, std::uint64_t size)
    : algorithm_(algorithm), state_(new State, [](State* state) { delete state; }) {
  require(SHA256_Init(&state_->sha256));
  require(SHA1_Init(&state_->sha1));
  if (algorithm != HashAlgorithm::git_sha1) return;
  const std::string header = "blob " + std::to_string(size);
  update(std::as_bytes(std::span(header.c_str(), header.size() + 1)));
}

void Hasher::update(std::span<const std::byte> data) {
  const bool git = algorithm_ == HashAlgorithm::git_sha1;
  require(git ? SHA1_Update(&state_->sha1, data.data(), data.size())
              : SHA256_Update(&state_->sha256, data.data(), data.size()));
}

std::string Hasher::finish() {
  if (algorithm_ == HashAlgorithm::git_sha1) {
    std::array<unsigned char, SHA_DIGEST_LENGTH> digest{};
    require(SHA1_Final(digest.data(), &state_->sha1));
    return hex(digest);
  }
  std::array<unsigned char, SHA256_DIGEST_LENGTH> digest{};
  require(SHA256_Final(digest.data(), &state_->sha256));
  return hex(digest);
}

std::string Hasher::save() const {
  const bool git = algorithm_ == HashAlgorithm::git_sha1;
  std::string text;
  if (git) {
    for (const SHA_LONG* const word : state_->words1()) put(text, *word, 4);
  } else {
    for (const SHA_LONG word : state_->sha256.h) put(text, word, 4);
  }
  const auto& one = state_->sha1;
  const auto& two = state_->sha256;
  put(text, git ? one.Nl : two.Nl, 4);
  put(text, git ? one.Nh : two.Nh, 4);
  const auto pending = std::as_bytes(git ? std::span(one.data) : std::span(two.data));
  const unsigned count = git ? one.num : two.num;
  for (unsigned i = 0; i < count; ++i) text += static_cast<char>(pending[i]);
  return text;
}

std::optional<Hasher> Hasher::restore(HashAlgorithm algorithm, std::string_view state) {
  Hasher hasher(algorithm, 0);
  const bool git = algorithm == HashAlgorithm::git_sha1;
  const std::size_t head = (git ? 5U : 8U) * 4 + 8;
  if (state.size() < head || state.size() >= head + kBlock) return std::nullopt;
  State& into = *hasher.state_;
  if (git) {
    for (SHA_LONG* const word : into.words1()) *word = static_cast<SHA_LONG>(get(state, 4));
  } else {
    for (SHA_LONG& word : into.sha256.h) word = static_cast<SHA_LONG>(get(state, 4));
  }
  const auto low = static_cast<SHA_LONG>(get(state, 4));
  const auto high = static_cast<SHA_LONG>(get(state, 4));
  if (low / 8 % kBlock != state.size()) return std::nullopt;
  (git ? into.sha1.Nl : into.sha256.Nl) = low;
  (git ? into.sha1.Nh : into.sha256.Nh) = high;
  (git ? into.sha1.num : into.sha256.num) = static_cast<unsigned>(state.size());
  const auto pending = std::as_writable_bytes(git ? std::span(into.sha1.data) : std::span(into.sha256.data));
  for (std::size_t i = 0; i < state.size(); ++i) pending[i] = static_cast<std::byte>(state[i]);
  return hasher;
}

}  // namespace fastslm
