import { spanOf } from "./check.ts";
import { doc, setPrompt, togglePromptWords } from "./document.ts";

/** Name a subject in the prompt, behind the one that stands last there. */
export function addToPrompt(phrase: string): void {
  const { prompt, subjects } = doc.value;
  const characters = [...prompt.trimEnd()];
  const ends = subjects.flatMap((_, index) => spanOf(index)?.[1] ?? []);
  const end = ends.length > 0 ? Math.max(...ends) : characters.length;
  const before = characters.slice(0, end).join("");
  const words = `${/^[aeiou]/i.test(phrase) ? "an" : "a"} ${phrase}`;
  setPrompt(before === "" ? words : `${before} and ${words}${characters.slice(end).join("")}`);
}

/** Of places and of treatments the prompt names one: another takes the place of the one before. */
export function choose(word: string, words: string[]): void {
  const { prompt } = doc.value;
  const other = words.find((one) => one !== word && prompt.includes(one));
  if (other && !prompt.includes(word)) setPrompt(prompt.replace(other, word));
  else togglePromptWords(word);
}
