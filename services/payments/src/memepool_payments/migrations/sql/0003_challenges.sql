-- A text for a wallet to sign: good once, for one user and one intent, until it expires.
create table signature_challenge (
  nonce text primary key,
  user_id uuid not null,
  intent bytea not null,
  message text not null,
  expires_at timestamptz not null
);
create index signature_challenge_user on signature_challenge (user_id);
