#include "serving/request_queue.hpp"

#include <gtest/gtest.h>

#include <chrono>
#include <future>
#include <map>
#include <thread>

namespace cake {
namespace {

WaitingRequest request(const std::string& client, const std::string& id = {}) {
    auto asked = std::make_shared<GenerationRequest>();
    asked->client = client;
    asked->id = id;
    WaitingRequest waiting{.request = asked, .generation = std::make_shared<EventQueue>(1)};
    waiting.sequences.emplace_back();
    return waiting;
}

/// Admits all requests that fit, and returns their ids in order.
std::vector<std::string> admit(RequestQueue& queue, std::map<std::string, size_t>& running) {
    std::vector<std::string> ids;
    queue.admit([&](const std::string& client) { return running[client]; },
                [&](WaitingRequest& waiting) {
                    ids.push_back(waiting.request->id);
                    running[waiting.request->client]++;
                    return true;
                });
    return ids;
}

TEST(RequestQueue, AdmitsTheClientWithTheFewestRunningAndItsOldestRequestFirst) {
    RequestQueue queue(4, 10);
    for (const char* id : {"a1", "a2", "a3"}) EXPECT_FALSE(queue.push(request("a", id)));
    for (const char* id : {"b1", "b2"}) EXPECT_FALSE(queue.push(request("b", id)));
    std::map<std::string, size_t> running;
    EXPECT_EQ(admit(queue, running), (std::vector<std::string>{"a1", "b1", "a2", "b2"}));
    EXPECT_EQ(queue.n_running(), 4U);
    EXPECT_EQ(queue.n_waiting(), 1U);
    EXPECT_EQ(admit(queue, running), std::vector<std::string>{});
    queue.ended(1, 0.5);
    EXPECT_EQ(admit(queue, running), std::vector<std::string>{"a3"});
}

TEST(RequestQueue, NobodyOvertakesARequestThatIsNotAdmitted) {
    RequestQueue queue(4, 10);
    for (const char* id : {"large", "small"}) EXPECT_FALSE(queue.push(request("a", id)));
    int n_offered = 0;
    queue.admit([](const std::string&) { return size_t{0}; }, [&](WaitingRequest&) { return n_offered++ > 0; });
    EXPECT_EQ(n_offered, 1);
    EXPECT_EQ(queue.n_waiting(), 2U);
}

TEST(RequestQueue, KeepsPlacesForOtherClients) {
    RequestQueue queue(1, 8);
    std::map<std::string, size_t> running;
    EXPECT_FALSE(queue.push(request("a")));
    EXPECT_EQ(admit(queue, running).size(), 1U);
    for (int i = 0; i < 6; i++) EXPECT_FALSE(queue.push(request("a"))) << i;
    const auto busy = queue.push(request("a"));
    ASSERT_TRUE(busy);
    EXPECT_EQ(busy->message,
              "6 requests of this client are already waiting, and no more of them may wait: try again later");
    EXPECT_FALSE(queue.push(request("b")));
}

TEST(RequestQueue, IsBusyBeyondWhatMayWaitAndSaysWhenToComeAgain) {
    RequestQueue queue(1, 1);
    EXPECT_FALSE(queue.refusal());
    EXPECT_FALSE(queue.push(request("a")));
    const auto busy = queue.push(request("a"));
    ASSERT_TRUE(busy);
    EXPECT_EQ(busy->reason, Refusal::Reason::busy);
    EXPECT_EQ(busy->message, "1 requests are already waiting, and no more may wait: try again later");
    EXPECT_GE(busy->retry_after.count(), 1);
}

TEST(RequestQueue, AClosedQueueTakesNothingMoreAndKeepsWhatItHas) {
    RequestQueue queue(1, 8);
    EXPECT_FALSE(queue.push(request("a")));
    queue.close();
    EXPECT_TRUE(queue.push(request("a")));
    EXPECT_TRUE(queue.is_busy());
    EXPECT_EQ(queue.take_all().size(), 1U);
    EXPECT_FALSE(queue.is_busy());
}

TEST(RequestQueue, TakesOutWhatNobodyWantsAnyMore) {
    RequestQueue queue(1, 8);
    std::vector<std::shared_ptr<EventQueue>> generations;
    for (const char* id : {"1", "2", "3"}) {
        auto waiting = request("a", id);
        generations.push_back(waiting.generation);
        EXPECT_FALSE(queue.push(std::move(waiting)));
    }
    generations[1]->cancel();
    const auto cancelled = queue.take_cancelled();
    ASSERT_EQ(cancelled.size(), 1U);
    EXPECT_EQ(cancelled.front().request->id, "2");
    std::vector<std::string> left;
    queue.for_each_waiting([&](const WaitingRequest& waiting, size_t) { left.push_back(waiting.request->id); });
    EXPECT_EQ(left, (std::vector<std::string>{"1", "3"}));
}

/// Admission may wait for a device, and the queue answers other threads meanwhile.
TEST(RequestQueue, ARequestThatIsNotAdmittedKeepsItsPlace) {
    RequestQueue queue(2, 10);
    for (const char* id : {"1", "2"}) EXPECT_FALSE(queue.push(request("a", id)));
    size_t n_waiting = 0;
    queue.admit([](const std::string&) { return size_t{0}; },
                [&](WaitingRequest&) {
                    std::thread([&] { n_waiting = queue.n_waiting(); }).join();
                    return false;
                });
    EXPECT_EQ(n_waiting, 1U);
    EXPECT_EQ(queue.n_running(), 0U);
    std::map<std::string, size_t> running;
    EXPECT_EQ(admit(queue, running), (std::vector<std::string>{"1", "2"}));
}

TEST(RequestQueue, AfterALossItRefusesWithItsMessageAndStillReports) {
    RequestQueue queue(1, 8);
    std::thread waiting([&] { EXPECT_EQ(queue.between_steps([] { return 5; }), 5); });
    queue.lose("gone");
    waiting.join();
    EXPECT_EQ(queue.between_steps([] { return 7; }), 7);
    const auto refusal = queue.push(request("a", "1"));
    ASSERT_TRUE(refusal);
    EXPECT_EQ(refusal->reason, Refusal::Reason::lost);
    EXPECT_EQ(refusal->message, "gone");
    EXPECT_FALSE(queue.is_busy());
}

TEST(EventQueue, FailsTheChoicesThatHaveNotEnded) {
    EventQueue events(3);
    events.tell(ChoiceEnded{.choice = 1, .reason = FinishReason::length});
    events.fail({.message = "gone"});
    std::map<int32_t, FinishReason> ends;
    while (const auto event = events.next()) {
        const auto& ended = std::get<ChoiceEnded>(event->what);
        EXPECT_TRUE(ends.emplace(ended.choice, ended.reason).second) << "choice " << ended.choice << " ended twice";
    }
    EXPECT_EQ(ends, (std::map<int32_t, FinishReason>{
                        {0, FinishReason::failed}, {1, FinishReason::length}, {2, FinishReason::failed}}));
}

TEST(RequestQueue, TasksRunBetweenStepsAndAtOnceWhenThereAreNone) {
    RequestQueue queue(1, 8);
    const auto asking = std::this_thread::get_id();
    std::thread::id computing;
    std::thread steps([&] {
        computing = std::this_thread::get_id();
        while (queue.wait(false)) queue.run_tasks();
        queue.no_more_steps();
    });
    const auto ran_on = queue.between_steps([] { return std::this_thread::get_id(); });
    EXPECT_NE(ran_on, asking);
    queue.stop();
    steps.join();
    EXPECT_EQ(ran_on, computing);
    EXPECT_EQ(queue.between_steps([] { return std::this_thread::get_id(); }), asking);
}

TEST(EventQueue, EndsWithTheLastChoice) {
    EventQueue events(2);
    events.tell(PromptRead{});
    events.tell(ChoiceEnded{.choice = 1});
    events.tell(ChoiceEnded{.choice = 0});
    for (int i = 0; i < 3; i++) EXPECT_TRUE(events.next());
    EXPECT_FALSE(events.next());
    EXPECT_FALSE(events.next()) << "and again";
}

TEST(EventQueue, AllThatWaitLearnOfTheEnd) {
    EventQueue events(1);
    std::vector<std::future<int>> waiting;
    for (int i = 0; i < 3; i++) {
        waiting.push_back(std::async(std::launch::async, [&] {
            int n = 0;
            while (events.next()) n++;
            return n;
        }));
    }
    events.tell(TokenDrawn{});
    events.tell(ChoiceEnded{});
    int n = 0;
    for (auto& each : waiting) n += each.get();
    EXPECT_EQ(n, 2);
}

TEST(EventQueue, ATimedWaitGivesUp) {
    EventQueue events(1);
    EXPECT_FALSE(events.next(std::chrono::milliseconds(1)));
}

}  // namespace
}  // namespace cake
