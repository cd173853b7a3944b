// The shapes of the daemon's API as the page uses them, for tsc; no browser loads this.

type MessageStatus = "done" | "streaming" | "stopped" | "failed";

interface Chat {
  id: string | null; // null: not created yet
  title: string;
  model: string;
  system: string;
  options: Record<string, any>;
  format: any;
  think: boolean | string | null;
  keep_alive: string | number | null;
  folder: string;
  pinned: boolean;
  archived: boolean;
  temporary: boolean;
  created_at: string;
  updated_at: string;
  head: string | null;
  n_messages: number;
  snippet?: [string, boolean][];
  message?: string;
  running?: boolean; // in the list: an answer is being written for it
}

interface Part {
  type: "text" | "image" | "file";
  text?: string;
  digest?: string;
  name?: string;
  media_type?: string;
}

interface ToolCall {
  id?: string;
  name: string;
  arguments: any;
}

interface Usage {
  prompt_tokens: number;
  cached_tokens: number;
  restored_tokens?: number;
  read_tokens?: number;
  completion_tokens: number;
  truncated_tokens?: number;
  dropped_messages?: number;
  context_length?: number;
  context_used?: number;
  total_duration?: number;
  load_duration?: number;
  prompt_duration?: number;
  completion_duration?: number;
  thinking_duration?: number;
  first_token_duration?: number;
  cache_note?: string;
  notes?: string[];
}

interface Message {
  id: string;
  parent: string | null;
  role: "user" | "assistant" | "tool" | "system";
  content: string;
  parts?: Part[];
  thinking?: string;
  tool_calls?: ToolCall[];
  tool_name?: string;
  tool_call_id?: string;
  model?: string;
  status: MessageStatus;
  stop_reason?: string | null;
  error?: { code: string; message: string } | null;
  usage?: Usage | null;
  created_at: string;
}

/** A block of an answer's HTML; only the last one of an answer that is being written is not final. */
interface Block {
  html: string;
  final: boolean;
}

/** What an answer waits for, or does. */
interface Stage {
  name: "waiting" | "queued" | "loading" | "prefill" | "thinking" | "writing";
  position?: number;
  stage?: string;
  fraction?: number;
  tokens?: number;
  cached?: number;
}

interface Queued {
  chat: string;
  content: string | Part[];
  failed?: boolean; // it could not be sent
}

interface ListedModel {
  name: string;
  model: string;
  size: number;
  digest: string;
  modified_at: string;
  details: { family?: string; parameter_size?: string; quantization_level?: string; context_length?: number; [more: string]: any };
  capabilities?: string[];
  memory?: number; // bytes for one conversation
  full_capabilities?: string[]; // also those of its Jinja template
  [more: string]: any;
}

interface RunningModel {
  name: string;
  model: string;
  digest: string;
  size: number;
  size_vram: number;
  expires_at: string;
  context_length?: number;
  status?: "starting" | "ready" | "stopping";
  stage?: "starting" | "weights" | "context" | "warm-up" | null;
  fraction?: number;
  in_flight?: number;
  [more: string]: any;
}

interface Memory {
  free: number;
  total: number;
}

interface Job {
  id: string;
  kind: "pull" | "push" | "create";
  model: string;
  status: "running" | "done" | "failed" | "cancelled";
  created_at: string;
  background: boolean;
  completed: number;
  total: number;
  progress: { status: string; note?: string; model?: string } | null;
  error: { message: string; code?: string } | null;
}

/** A finding in a Modelfile; line and column begin at 1. */
interface Finding {
  line: number;
  column: number;
  severity: "error" | "warning";
  message: string;
}

interface OptionInfo {
  name: string;
  type: "integer" | "number" | "boolean" | "string" | "array";
  when: "load" | "request";
  default: any;
  is_model_default?: boolean;
  minimum?: number;
  maximum?: number;
  choices?: string[];
}

interface ModelOptions {
  model: string;
  capabilities: string[];
  system: string;
  context_length: number | null;
  think_levels: string[];
  options: OptionInfo[];
}

interface Preset {
  name: string;
  model?: string;
  system?: string | null;
  options?: Record<string, any>;
  format?: any;
  think?: boolean | string | null;
  keep_alive?: string | number | null;
}
