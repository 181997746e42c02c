
// Word differences of two texts: [kept, word] pairs for each, by the longest common subsequence of words.
const wordsOf = (text) => {
  if (typeof Intl === "object" && Intl.Segmenter) {
    return Array.from(new Intl.Segmenter(undefined, { granularity: "word" }).segment(text), (part) => part.segment);
  }
  return text.match(/\s+|[\p{L}\p{N}_]+|[^\s\p{L}\p{N}_]/gu) || [];
};
const MOST_CELLS = 4e6; // of the table of lengths; longer texts are compared as sets of words
const wordDifferences = (one, other) => {
  const a = wordsOf(one), b = wordsOf(other);
  let start = 0, end = 0;
  while (start < a.length && start < b.length && a[start] === b[start]) start++;
  while (end < a.length - start && end < b.length - start && a[a.length - 1 - end] === b[b.length - 1 - end]) end++;
  const kept = [a.map((_, i) => i < start || i >= a.length - end), b.map((_, i) => i < start || i >= b.length - end)];
  const n = a.length - start - end, m = b.length - start - end;
  if (n * m > MOST_CELLS) {
    const [left, right] = [new Set(a), new Set(b)];
    a.forEach((word, i) => { kept[0][i] ||= right.has(word); });
    b.forEach((word, i) => { kept[1][i] ||= left.has(word); });
  } else {
    const width = m + 1, longest = new Uint16Array((n + 1) * width);
    for (let i = n - 1; i >= 0; i--) {
      for (let j = m - 1; j >= 0; j--) {
        longest[i * width + j] = a[start + i] === b[start + j] ? longest[(i + 1) * width + j + 1] + 1
          : Math.max(longest[(i + 1) * width + j], longest[i * width + j + 1]);
      }
    }
    for (let i = 0, j = 0; i < n && j < m;) {
      if (a[start + i] === b[start + j]) { kept[0][start + i++] = true; kept[1][start + j++] = true; }
      else if (longest[(i + 1) * width + j] >= longest[i * width + j + 1]) i++; else j++;
    }
  }
  return [a.map((word, i) => [kept[0][i], word]), b.map((word, i) => [kept[1][i], word])];
};
// Puts a text into a box, words that are not kept inside elements of the tag; white space between two joins them.
const showMarked = (box, words, tag) => {
  box.textContent = "";
  let run = [], marked = false;
  const flush = () => {
    const text = run.join("");
    if (run.length) box.append(marked ? Object.assign(document.createElement(tag), { textContent: text }) : text);
    run = [];
  };
  words.forEach(([kept, word], i) => {
    const space = !word.trim();
    const mark = space ? marked && i + 1 < words.length && !words[i + 1][0] : !kept;
    if (mark !== marked) { flush(); marked = mark; }
    run.push(word);
  });
  flush();
};
