// A parallel loop over chunks of fixed size: which thread runs a chunk never changes its result.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

namespace volscen {

// Calls body(begin, end) for the chunks of [0, count). The first exception is rethrown here.
template <class Body>
void parallel_for(std::size_t count, std::size_t chunk, int num_threads, const Body& body) {
    const std::size_t chunks = (count + chunk - 1) / chunk;
    std::atomic<std::size_t> next{0};
    std::exception_ptr failure;
    std::mutex failure_mutex;
    const auto work = [&]() {
        try {
            for (std::size_t i = next.fetch_add(1); i < chunks; i = next.fetch_add(1)) {
                body(i * chunk, std::min(count, (i + 1) * chunk));
            }
        } catch (...) {
            const std::lock_guard<std::mutex> lock(failure_mutex);
            failure = std::current_exception();
            next.store(chunks);
        }
    };
    std::vector<std::thread> threads;
    const std::size_t wanted = std::min(chunks, static_cast<std::size_t>(std::max(num_threads, 1)));
    try {
        for (std::size_t i = 1; i < wanted; ++i) {
            threads.emplace_back(work);
        }
    } catch (const std::system_error&) {
        // The system gives no more threads: those that started, and this one, do all the work.
    }
    work();
    for (std::thread& thread : threads) {
        thread.join();
    }
    if (failure) {
        std::rethrow_exception(failure);
    }
}

}  // namespace volscen
