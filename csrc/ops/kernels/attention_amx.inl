// Products of attention over a cache of int16 by the matrix units, which multiply bytes: a word is a signed
// high and an unsigned low one, and a sum of products is that of the high ones times 2^16, the mixed ones
// times 2^8 and the low ones. Builds on attention_words.inl and tile_amx.inl; included by avx512_amx.cpp
// only.

// Bytes of words, high and low ones apart.
struct BytePlanes {
  std::uint8_t* high;
  std::uint8_t* low;
};

// Pairs of words [count][width] become bytes of four words [ceil(count / 2)][width][4], as codes of a panel.
inline void split_pairs(const std::int32_t* pairs, std::size_t count, std::size_t width,
                        const BytePlanes& to) {
  const Vec::Int apart = _mm512_set4_epi32(0x0f0d0e0c, 0x0b090a08, 0x07050604, 0x03010200);
  for (std::size_t k = 0; k < count; k += 2) {
    for (std::size_t at = 0; at < width; at += kLanes) {
      const std::int32_t* from = pairs + k * width + at;
      const Vec::Int first = _mm512_shuffle_epi8(Vec::load32(from), apart);
      const Vec::Int second =
          k + 1 < count ? _mm512_shuffle_epi8(Vec::load32(from + width), apart) : Vec::set32(0);
      const std::size_t quad = (k / 2 * width + at) * 4;
      Vec::store_bytes(to.low + quad,
                       _mm512_mask_blend_epi16(0xaaaaaaaa, first, _mm512_slli_epi32(second, 16)));
      Vec::store_bytes(to.high + quad,
                       _mm512_mask_blend_epi16(0xaaaaaaaa, _mm512_srli_epi32(first, 16), second));
    }
  }
}

// Words of a row become bytes, up to a multiple of 64 of them with zeros.
inline void split_row(const std::uint8_t* words, std::size_t count, const BytePlanes& to) {
  for (std::size_t at = 0; at < count; at += 32) {
    const std::size_t left = count - at;
    const __mmask32 mask = left < 32 ? (1U << left) - 1U : 0xffffffffU;
    const __m512i all = _mm512_maskz_loadu_epi16(mask, words + 2 * at);
    _mm256_store_si256(reinterpret_cast<__m256i*>(to.low + at), _mm512_cvtepi16_epi8(all));
    _mm256_store_si256(reinterpret_cast<__m256i*>(to.high + at),
                       _mm512_cvtepi16_epi8(_mm512_srli_epi16(all, 8)));
  }
  if ((count + 31) / 32 % 2 == 0) return;
  _mm256_store_si256(reinterpret_cast<__m256i*>(to.low + (count + 31) / 32 * 32), _mm256_setzero_si256());
  _mm256_store_si256(reinterpret_cast<__m256i*>(to.high + (count + 31) / 32 * 32), _mm256_setzero_si256());
}

constexpr std::size_t kStripColumns = 64;  // whose sums stay in the first level cache

// Sums of 16 columns for 16 rows: of high bytes, mixed, and low ones.
using ByteSums = std::int32_t[kStripColumns / 16][3][kRowsAtOnce * 16];

// Rows of bytes [16][a_stride] times 16 columns [depth / 4][b_stride][4].
inline void dot_bytes(const BytePlanes& a, std::size_t a_stride, std::size_t depth, const BytePlanes& b,
                      std::size_t b_stride, std::size_t column, std::int32_t (*sums)[kRowsAtOnce * 16]) {
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  for (std::size_t k = 0; k < depth; k += 64) {
    const std::size_t at = (k / 4 * b_stride + column) * 4;
    _tile_loadd(3, a.high + k, a_stride);
    _tile_loadd(5, b.high + at, b_stride * 4);
    _tile_dpbssd(0, 3, 5);
    _tile_loadd(6, b.low + at, b_stride * 4);
    _tile_dpbsud(1, 3, 6);
    _tile_loadd(4, a.low + k, a_stride);
    _tile_dpbuud(2, 4, 6);
    _tile_dpbusd(1, 4, 5);
  }
  _tile_stored(0, sums[0], 64);
  _tile_stored(1, sums[1], 64);
  _tile_stored(2, sums[2], 64);
}

template <class Finish>
inline void dot_columns(const BytePlanes& a, std::size_t a_stride, std::size_t depth, const BytePlanes& b,
                        std::size_t b_stride, std::size_t width, std::size_t rows, const Finish& finish) {
  alignas(64) ByteSums sums;
  write_before_tiles();
  for (std::size_t first = 0; first < width; first += kStripColumns) {
    const std::size_t end = first + kStripColumns < width ? first + kStripColumns : width;
    for (std::size_t at = first; at < end; at += 16) {
      dot_bytes(a, a_stride, depth, b, b_stride, at, sums[(at - first) / 16]);
    }
    for (std::size_t row = 0; row < rows; ++row) {
      for (std::size_t at = first; at < end; at += 16) {
        const auto part = [&](std::size_t i) { return Vec::load32(sums[(at - first) / 16][i] + row * 16); };
        const Vec::Int mixed = _mm512_slli_epi32(part(1), 8);
        finish(row, at, Vec::add32(_mm512_slli_epi32(part(0), 16), Vec::add32(mixed, part(2))));
      }
    }
  }
}

// Both products of 16 rows; what is in the memory behind the last one makes no difference to the others.
class TileProducts {
 public:
  static constexpr int kMostRows = kRowsAtOnce;

  TileProducts(const AttentionRows& rows, const WordMemory& memory)
      : padded_(memory.padded),
        queries_{memory.query_bytes, memory.query_bytes + (rows.count + kRowsAtOnce) * memory.padded},
        keys_{memory.tile_bytes, memory.tile_bytes + kTileKeys * memory.padded},
        values_{memory.tile_bytes + 2 * kTileKeys * memory.padded,
                memory.tile_bytes + 3 * kTileKeys * memory.padded} {
    for (std::size_t row = 0; row < rows.count; ++row) {
      const auto* words =
          reinterpret_cast<const std::uint8_t*>(memory.queries.pairs + row * memory.queries.stride);
      split_row(words, rows.head_dim, {queries_.high + row * padded_, queries_.low + row * padded_});
    }
    _tile_loadconfig(&kTileShapes.at[1][kRowsAtOnce]);
  }
  // Not in a destructor, which would need what the linker merges between instruction sets.
  void end() const { _tile_release(); }

  void take(const WordTile& tile) const {
    split_pairs(tile.keys, tile.pairs, kTileKeys, keys_);
    split_pairs(tile.values, kTileKeys / 2, tile.wide, values_);
  }

  void scores(const WordTile&, const RowGroup& group, const ToScores& finish) const {
    const std::size_t at = group.first * padded_;
    const std::size_t width = (index(group.end_key) + 15) / 16 * 16;
    dot_columns({queries_.high + at, queries_.low + at}, padded_, padded_, keys_, kTileKeys, width,
                index(group.count), finish);
  }

  void values(const WordTile& tile, const RowGroup& group, const std::int32_t (*shares)[kTileKeys / 2],
              const ToValues& finish) const {
    alignas(64) std::uint8_t high[kRowsAtOnce][kTileKeys], low[kRowsAtOnce][kTileKeys];
    for (int r = 0; r < group.count; ++r) {
      split_row(reinterpret_cast<const std::uint8_t*>(shares[r]), kTileKeys, {high[r], low[r]});
    }
    dot_columns({high[0], low[0]}, kTileKeys, kTileKeys, values_, tile.wide, tile.wide, index(group.count),
                finish);
  }

 private:
  std::size_t padded_;
  BytePlanes queries_;
  BytePlanes keys_;
  BytePlanes values_;
};

void attend_many(const AttentionRows& rows, std::int64_t first_key, std::int64_t end_key, float* scratch,
                 const AttentionPartial& result, const AttentionPartial& chunk) {
  const bool are_many = rows.format == CacheFormat::int16 && rows.count >= index(kRowsAtOnce);
  const auto run = are_many ? attend_words<TileProducts> : attend;
  run(rows, first_key, end_key, scratch, result, chunk);
}
