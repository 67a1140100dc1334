#pragma once

#include <condition_variable>
#include <mutex>

/// Attributes for Clang's -Wthread-safety analysis: which mutex guards a member, and which one a function requires or
/// excludes. Empty for other compilers.
#if defined(__clang__)
#define CAKE_THREAD_ATTRIBUTE(x) __attribute__((x))
#else
#define CAKE_THREAD_ATTRIBUTE(x)
#endif
#define CAKE_GUARDED_BY(mutex) CAKE_THREAD_ATTRIBUTE(guarded_by(mutex))
#define CAKE_REQUIRES(mutex) CAKE_THREAD_ATTRIBUTE(requires_capability(mutex))
#define CAKE_EXCLUDES(mutex) CAKE_THREAD_ATTRIBUTE(locks_excluded(mutex))

namespace cake {

/// std::mutex with the attributes of the thread-safety analysis.
class CAKE_THREAD_ATTRIBUTE(capability("mutex")) Mutex {
  public:
    void lock() CAKE_THREAD_ATTRIBUTE(acquire_capability()) { mutex_.lock(); }
    void unlock() CAKE_THREAD_ATTRIBUTE(release_capability()) { mutex_.unlock(); }

  private:
    std::mutex mutex_;
};

/// Holds a lock on a mutex during its lifetime.
class CAKE_THREAD_ATTRIBUTE(scoped_lockable) MutexLock {
  public:
    explicit MutexLock(Mutex& mutex) CAKE_THREAD_ATTRIBUTE(acquire_capability(mutex)) : mutex_(mutex) { mutex_.lock(); }
    ~MutexLock() CAKE_THREAD_ATTRIBUTE(release_capability()) { mutex_.unlock(); }
    MutexLock(const MutexLock&) = delete;
    MutexLock& operator=(const MutexLock&) = delete;

  private:
    Mutex& mutex_;
};

/// Condition variable for a locked Mutex: `while (!ready) condition.wait(mutex);`.
using MutexCondition = std::condition_variable_any;

}  // namespace cake
