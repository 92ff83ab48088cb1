#include <array>

#include <openssl/evp.h>

#include <fastslm/error.hpp>
#include <fastslm/hash.hpp>

namespace fastslm {
namespace {

EVP_MD_CTX* evp(void* context) { return static_cast<EVP_MD_CTX*>(context); }

void free_context(void* context) { EVP_MD_CTX_free(evp(context)); }

void require(bool worked) {
  if (!worked) throw Error(ErrorCode::internal, "OpenSSL could not compute a hash");
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

}  // namespace

Hasher::Hasher(HashAlgorithm algorithm, std::uint64_t size) : context_(EVP_MD_CTX_new(), free_context) {
  require(context_ != nullptr);
  const bool git = algorithm == HashAlgorithm::git_sha1;
  require(EVP_DigestInit_ex(evp(context_.get()), git ? EVP_sha1() : EVP_sha256(), nullptr) == 1);
  if (!git) return;
  const std::string header = "blob " + std::to_string(size);
  require(EVP_DigestUpdate(evp(context_.get()), header.c_str(), header.size() + 1) == 1);
}

void Hasher::update(std::span<const std::byte> data) {
  require(EVP_DigestUpdate(evp(context_.get()), data.data(), data.size()) == 1);
}

std::string Hasher::finish() {
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned length = 0;
  require(EVP_DigestFinal_ex(evp(context_.get()), digest.data(), &length) == 1);
  return hex(std::span(digest).first(length));
}

}  // namespace fastslm
