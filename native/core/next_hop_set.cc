#include "core/next_hop_set.h"

#include <algorithm>

namespace flannelette {

namespace {

// Fibonacci hashing: neighbouring addresses, which PublicIPs are, spread over all buckets.
size_t bucket_of(uint32_t next_hop) { return (next_hop * 0x9e3779b1U) >> 24; }

template <typename Bucket>
auto find(Bucket& bucket, uint32_t next_hop) {
  return std::lower_bound(
      bucket.begin(), bucket.end(), next_hop,
      [](const auto& counted, uint32_t wanted) { return counted.next_hop < wanted; });
}

}  // namespace

void NextHopSet::add(uint32_t next_hop) {
  Bucket& bucket = editable(next_hop);
  const auto at = find(bucket, next_hop);
  if (at != bucket.end() && at->next_hop == next_hop) {
    ++at->routes;
  } else {
    bucket.insert(at, {next_hop, 1});
  }
}

void NextHopSet::remove(uint32_t next_hop) {
  Bucket& bucket = editable(next_hop);
  const auto at = find(bucket, next_hop);
  if (--at->routes == 0) bucket.erase(at);
}

bool NextHopSet::contains(uint32_t next_hop) const {
  const auto& bucket = (*buckets_)[bucket_of(next_hop)];
  if (bucket == nullptr) return false;
  const auto at = find(*bucket, next_hop);
  return at != bucket->end() && at->next_hop == next_hop;
}

std::vector<uint32_t> NextHopSet::all() const {
  std::vector<uint32_t> out;
  for (const auto& bucket : *buckets_) {
    if (bucket == nullptr) continue;
    for (const Counted& counted : *bucket) out.push_back(counted.next_hop);
  }
  return out;
}

size_t NextHopSet::memory_bytes() const {
  size_t bytes = sizeof(Buckets);
  for (const auto& bucket : *buckets_)
    if (bucket != nullptr) bytes += sizeof(Bucket) + bucket->capacity() * sizeof(Counted);
  return bytes;
}

NextHopSet::Bucket& NextHopSet::editable(uint32_t next_hop) {
  if (buckets_.use_count() > 1) buckets_ = std::make_shared<Buckets>(*buckets_);
  auto& bucket = (*buckets_)[bucket_of(next_hop)];
  if (bucket == nullptr) {
    bucket = std::make_shared<Bucket>();
  } else if (bucket.use_count() > 1) {
    bucket = std::make_shared<Bucket>(*bucket);
  }
  return *bucket;
}

}  // namespace flannelette
