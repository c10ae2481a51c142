// Vectors of floats and of integers in the width that this processor multiplies bytes in: 16 numbers with AVX-512, else 8.
// Every number of a vector is computed by itself, so a row's result does not depend on what is beside it.
#pragma once
#include <immintrin.h>

#include <cmath>
#include <cstdint>
#include <cstring>

// Whether the processor multiplies bytes and adds four of the products in one instruction, and for how many numbers at once.
#if defined(__AVX512VNNI__) && defined(__AVX512VL__) && defined(__AVX512BW__) && defined(__AVX512DQ__)
#define MZ_VNNI 1
#define MZ_WIDE 1
#elif defined(__AVXVNNI__)
#define MZ_VNNI 1
#define MZ_WIDE 0
#else
#define MZ_VNNI 0
#define MZ_WIDE 0
#endif

namespace mz {

constexpr int kLanes = 8;                  // numbers in half a cache line
constexpr int kWide = MZ_WIDE ? 16 : 8;    // numbers in a vector

template <class V>
V all(float x);
template <>
inline __m256 all<__m256>(float x) { return _mm256_set1_ps(x); }
inline __m256 add(__m256 a, __m256 b) { return _mm256_add_ps(a, b); }
inline __m256 sub(__m256 a, __m256 b) { return _mm256_sub_ps(a, b); }
inline __m256 mul(__m256 a, __m256 b) { return _mm256_mul_ps(a, b); }
inline __m256 div(__m256 a, __m256 b) { return _mm256_div_ps(a, b); }
inline __m256 least(__m256 a, __m256 b) { return _mm256_min_ps(a, b); }
inline __m256 most(__m256 a, __m256 b) { return _mm256_max_ps(a, b); }
inline __m256 mul_add(__m256 a, __m256 b, __m256 sum) { return _mm256_fmadd_ps(a, b, sum); }
inline __m256 sub_mul(__m256 sum, __m256 a, __m256 b) { return _mm256_fnmadd_ps(a, b, sum); }
inline __m256 nearest(__m256 x) { return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
inline __m256 two_to_the(__m256 n) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23));
}
inline __m256 where_above(__m256 x, float limit, __m256 then) { return _mm256_and_ps(then, _mm256_cmp_ps(x, _mm256_set1_ps(limit), _CMP_GT_OQ)); }
inline float sum_of(__m256 v) {
  __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  s = _mm_add_ps(s, _mm_movehl_ps(s, s));
  return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}
inline int32_t sum_of(__m256i v) {
  __m128i s = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
  s = _mm_add_epi32(s, _mm_unpackhi_epi64(s, s));
  return _mm_cvtsi128_si32(s) + _mm_extract_epi32(s, 1);
}
inline float most_of(__m256 v) {
  __m128 s = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  s = _mm_max_ps(s, _mm_movehl_ps(s, s));
  return _mm_cvtss_f32(_mm_max_ss(s, _mm_movehdup_ps(s)));
}

#if MZ_WIDE
using Floats = __m512;
using Ints = __m512i;
template <>
inline __m512 all<__m512>(float x) { return _mm512_set1_ps(x); }
inline __m512 add(__m512 a, __m512 b) { return _mm512_add_ps(a, b); }
inline __m512 sub(__m512 a, __m512 b) { return _mm512_sub_ps(a, b); }
inline __m512 mul(__m512 a, __m512 b) { return _mm512_mul_ps(a, b); }
inline __m512 div(__m512 a, __m512 b) { return _mm512_div_ps(a, b); }
inline __m512 least(__m512 a, __m512 b) { return _mm512_min_ps(a, b); }
inline __m512 most(__m512 a, __m512 b) { return _mm512_max_ps(a, b); }
inline __m512 mul_add(__m512 a, __m512 b, __m512 sum) { return _mm512_fmadd_ps(a, b, sum); }
inline __m512 sub_mul(__m512 sum, __m512 a, __m512 b) { return _mm512_fnmadd_ps(a, b, sum); }
inline __m512 nearest(__m512 x) { return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
inline __m512 two_to_the(__m512 n) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127)), 23));
}
inline __m512 where_above(__m512 x, float limit, __m512 then) {
  return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, _mm512_set1_ps(limit), _CMP_GT_OQ), then);
}
inline __m256 first_half(__m512 v) { return _mm512_castps512_ps256(v); }
inline float sum_of(__m512 v) { return sum_of(_mm256_add_ps(first_half(v), _mm512_extractf32x8_ps(v, 1))); }
inline float most_of(__m512 v) { return most_of(_mm256_max_ps(first_half(v), _mm512_extractf32x8_ps(v, 1))); }
inline Floats load(const float* p) { return _mm512_loadu_ps(p); }
inline Floats load(const uint16_t* p) { return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))); }
inline void store(float* p, Floats v) { _mm512_storeu_ps(p, v); }
inline void store(uint16_t* p, Floats v) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtps_ph(v, 0)); }

inline Ints zeros() { return _mm512_setzero_si512(); }
inline Ints words(int32_t x) { return _mm512_set1_epi32(x); }
inline Ints load_codes(const void* p) { return _mm512_load_si512(p); }
inline Ints load_bytes(const void* p) { return _mm512_loadu_si512(p); }
inline Ints low_codes(Ints v) { return _mm512_and_si512(v, _mm512_set1_epi8(15)); }
inline Ints high_codes(Ints v) { return _mm512_and_si512(_mm512_srli_epi16(v, 4), _mm512_set1_epi8(15)); }
inline Ints load_widened(const uint8_t* p) { return _mm512_cvtepi8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))); }
inline Floats to_floats(Ints t) { return _mm512_cvtepi32_ps(t); }
inline Ints add_bytes(Ints sum, Ints codes, Ints x) { return _mm512_dpbusd_epi32(sum, codes, x); }
inline Ints add_words(Ints sum, Ints codes, Ints x) { return _mm512_dpwssd_epi32(sum, codes, x); }
#else
using Floats = __m256;
using Ints = __m256i;
inline __m256 first_half(__m256 v) { return v; }
inline Floats load(const float* p) { return _mm256_loadu_ps(p); }
inline Floats load(const uint16_t* p) { return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))); }
inline void store(float* p, Floats v) { _mm256_storeu_ps(p, v); }
inline void store(uint16_t* p, Floats v) { _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph(v, 0)); }

inline Ints zeros() { return _mm256_setzero_si256(); }
inline Ints words(int32_t x) { return _mm256_set1_epi32(x); }
inline Ints load_codes(const void* p) { return _mm256_load_si256(static_cast<const __m256i*>(p)); }
inline Ints load_bytes(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
inline Ints low_codes(Ints v) { return _mm256_and_si256(v, _mm256_set1_epi8(15)); }
inline Ints high_codes(Ints v) { return _mm256_and_si256(_mm256_srli_epi16(v, 4), _mm256_set1_epi8(15)); }
inline Ints load_widened(const uint8_t* p) { return _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))); }
inline Floats to_floats(Ints t) { return _mm256_cvtepi32_ps(t); }
#if MZ_VNNI
inline Ints add_bytes(Ints sum, Ints codes, Ints x) { return _mm256_dpbusd_avx_epi32(sum, codes, x); }
#else
// Sixteen bits for a pair of products, at most 2 * 15 * 127 = 3810, so that the eight pairs of a block still fit.
inline Ints add_bytes(Ints sum, Ints codes, Ints x) { return _mm256_add_epi16(sum, _mm256_maddubs_epi16(codes, x)); }
#endif
inline Ints add_words(Ints sum, Ints codes, Ints x) { return _mm256_add_epi32(sum, _mm256_madd_epi16(codes, x)); }
#endif

// The sum of a block's byte products, from what add_bytes() gathered.
inline Ints gathered(Ints sum) {
#if MZ_VNNI
  return sum;
#else
  return _mm256_madd_epi16(sum, _mm256_set1_epi16(1));
#endif
}

inline Ints broadcast(const void* p) {
  int32_t word;
  std::memcpy(&word, p, 4);
  return words(word);
}

// e^x for x in [-87, 87]: 2^n times a polynomial of degree 6 on [-ln2/2, ln2/2]; relative error below 2e-7.
template <class V>
inline V exp_of(V x) {
  x = least(most(x, all<V>(-87.0f)), all<V>(87.0f));
  const V n = nearest(mul(x, all<V>(1.44269504f)));
  V r = sub_mul(x, n, all<V>(0.693359375f));
  r = sub_mul(r, n, all<V>(-2.12194440e-4f));
  V p = all<V>(1.0f / 720);
  for (float c : {1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1.0f, 1.0f}) p = mul_add(p, r, all<V>(c));
  return mul(p, two_to_the(n));
}

template <class V>
inline V silu_of(V x) { return div(x, add(all<V>(1.0f), exp_of(sub(all<V>(0.0f), x)))); }

}  // namespace mz
