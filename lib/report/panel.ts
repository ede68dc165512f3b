/** Parts of the report: sections hold panels, a panel is a picture, its numbers and their SQL. */
import type { Answer } from "./answer.js";
import type { Html } from "./html.js";

export interface Panel {
  readonly title: string;
  /** What it shows, in a sentence. */
  readonly note: string;
  readonly answer: Answer;
  /** Null: the numbers are the picture. */
  readonly body: Html | null;
  /** Closed until it is asked for. */
  readonly fold?: boolean;
  /** Takes the whole width. */
  readonly isWide?: boolean;
}

export interface Section {
  /** Of its heading, for links. */
  readonly id: string;
  readonly title: string;
  readonly note: string;
  readonly panels: readonly Panel[];
}
