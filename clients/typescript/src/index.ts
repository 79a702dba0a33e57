/** A client of the MS-Diffusion service, for browsers and Node. */
export {
  type ClientOptions,
  type FinishedPicture,
  type GenerateOptions,
  MsdClient,
  type Preview,
  type Result,
  type ResultOptions,
  type SubmitOptions,
} from "./client.js";
export { MsdError } from "./errors.js";
export type { WatchOptions } from "./events.js";
export type { ControlInput, GenerateInput, Picture, StartInput, SubjectInput } from "./pictures.js";
export type {
  Asset,
  Box,
  GenerationWarning,
  JobEvent,
  JobResource,
  JobState,
  PreviewEvent,
  ProblemItem,
  ProgressEvent,
  ScoreResource,
  StatusEvent,
} from "./generated/types.gen.js";
/** Every endpoint as a function; pass `client.http` as `client`. */
export * as api from "./generated/sdk.gen.js";
