// A model's text as DOM nodes. Everything becomes text nodes in elements made here: nothing that
// a model writes is ever read as HTML.

const FENCE = /^ {0,3}(`{3,}|~{3,})(.*)$/;

// Splits text into paragraphs and fenced code, [{kind: "text" | "code", source}].
export function blocks(text) {
  const found = [];
  let lines = [];
  let fence = null;
  const flush = (kind) => {
    const source = kind === "code" ? lines.join("\n") : lines.join("\n").replace(/^\s*\n|\s+$/g, "");
    if (kind === "code" || source.trim()) found.push({ kind, source });
    lines = [];
  };
  for (const line of text.split("\n")) {
    const mark = FENCE.exec(line);
    if (fence === null && mark && !mark[2].includes("`")) {
      flush("text");
      fence = mark[1];
    } else if (fence !== null && mark && mark[1].startsWith(fence) && !mark[2].trim()) {
      flush("code");
      fence = null;
    } else if (fence === null && !line.trim()) {
      flush("text");
    } else {
      lines.push(line);
    }
  }
  flush(fence === null ? "text" : "code");
  return found;
}

// `code` and **bold** within a paragraph; all else as it stands.
function inline(source) {
  const nodes = [];
  let end = 0;
  for (const match of source.matchAll(/`([^`\n]+)`|\*\*(?=\S)([^*\n]+?)(?<=\S)\*\*/g)) {
    nodes.push(source.slice(end, match.index));
    const element = document.createElement(match[1] === undefined ? "strong" : "code");
    element.textContent = match[1] ?? match[2];
    nodes.push(element);
    end = match.index + match[0].length;
  }
  nodes.push(source.slice(end));
  return nodes;
}

function element({ kind, source }) {
  if (kind === "code") {
    const code = document.createElement("code");
    code.textContent = source;
    const pre = document.createElement("pre");
    pre.tabIndex = 0; // so that the keyboard can scroll it
    pre.append(code);
    return pre;
  }
  const paragraph = document.createElement("p");
  paragraph.append(...inline(source));
  return paragraph;
}

// Shows growing text in an element. Blocks that did not change keep their nodes, so that a
// selection in them survives and a long answer costs no more for each token.
export class Markup {
  constructor(target) {
    this.target = target;
    this.shown = [];
  }

  update(text) {
    const wanted = blocks(text);
    wanted.forEach((block, index) => {
      const old = this.shown[index];
      if (old && old.kind === block.kind && old.source === block.source) return;
      const node = element(block);
      if (old) old.node.replaceWith(node);
      else this.target.append(node);
      this.shown[index] = { ...block, node };
    });
    for (const old of this.shown.splice(wanted.length)) old.node.remove();
  }
}
