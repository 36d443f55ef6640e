// The ten most frequent words of standard input: C++17 with the standard library's containers and streams.
#include <algorithm>
#include <cctype>
#include <iostream>
#include <map>
#include <string>
#include <vector>

int main() {
    std::map<std::string, int> counts;
    for (std::string word; std::cin >> word;) {
        std::string key;
        for (unsigned char c : word)
            if (std::isalnum(c)) key += static_cast<char>(std::tolower(c));
        if (!key.empty()) counts[key]++;
    }
    std::vector<std::pair<std::string, int>> order(counts.begin(), counts.end());
    std::stable_sort(order.begin(), order.end(), [](auto &a, auto &b) { return a.second > b.second; });
    for (size_t i = 0; i < order.size() && i < 10; i++)
        std::cout << order[i].second << ' ' << order[i].first << '\n';
}
