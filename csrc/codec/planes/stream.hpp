// The frames of one response, unpacked as they arrive: a Decoder for a stretch of a file.
//
// Law: frames follow each other without a gap, and no byte outside of the stretch is produced. Memory is one
// frame, packed and unpacked, whatever the bytes claim.
#pragma once

#include <memory>

#include "base/extents.hpp"
#include "codec/decoder.hpp"

namespace fastslm {

// `finished` once the last byte of the stretch was produced; after that there is nothing to decode.
std::unique_ptr<Decoder> make_planes_decoder(ByteRange stretch);

}  // namespace fastslm
