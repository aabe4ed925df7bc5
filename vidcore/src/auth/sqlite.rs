//! SQL of accounts and refresh sessions.

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, Row, named_params};

use crate::auth::{
    Account, AccountError, AccountStore, AuthState, Credentials, NewAccount, NewSession, Role, Rotated, Rotation,
    SessionAccount,
};
use crate::clock::Timestamp;
use crate::id::{SessionId, UserId};
use crate::page::Position;
use crate::store::sqlite::{Fail, SqliteStore, named, refuse};
use crate::store::{Causes, Outcome, StoreError};

type Result<T, E = Fail<AccountError>> = std::result::Result<T, E>;

const SELECT: &str =
    "SELECT u.id, u.email, u.handle, u.display_name, u.role, u.auth_epoch, u.version, u.created_at_ms FROM users u";

/// A refresh token's row with the session it belongs to.
struct TokenRow {
    session_pk: i64,
    session: SessionId,
    revoked: bool,
    consumed_at: Option<Timestamp>,
    sealed: Option<Vec<u8>>,
}

fn account_from(row: &Row<'_>) -> rusqlite::Result<Account> {
    Ok(Account {
        id: row.get("id")?,
        email: row.get("email")?,
        handle: row.get("handle")?,
        display_name: row.get("display_name")?,
        role: named(row, "role", |text| text.parse().ok())?,
        auth_epoch: row.get("auth_epoch")?,
        version: row.get("version")?,
        created_at: row.get("created_at_ms")?,
    })
}

fn find(db: &Connection, id: UserId) -> rusqlite::Result<Option<Account>> {
    db.prepare_cached(&format!("{SELECT} WHERE u.id = :id"))?
        .query_row(named_params! {":id": id}, account_from)
        .optional()
}

fn demand(db: &Connection, id: UserId) -> Result<Account> {
    find(db, id)?.ok_or_else(|| refuse(AccountError::NotFound))
}

/// `false` if the address or the handle is taken; nothing is written then.
fn insert_account(db: &Connection, new: &NewAccount) -> rusqlite::Result<bool> {
    // The unique keys decide, not a look beforehand.
    let rows = db
        .prepare_cached(
            "INSERT INTO users (id, email, handle, display_name, password_hash, created_at_ms, updated_at_ms)
             VALUES (:id, :email, :handle, :display_name, :password_hash, :now, :now)
             ON CONFLICT (email) DO NOTHING ON CONFLICT (handle) DO NOTHING",
        )?
        .execute(named_params! {
            ":id": new.id,
            ":email": new.email,
            ":handle": new.handle,
            ":display_name": new.display_name,
            ":password_hash": new.password_hash,
            ":now": new.now,
        })?;
    Ok(rows == 1)
}

fn has_email(db: &Connection, email: &str) -> rusqlite::Result<bool> {
    db.prepare_cached("SELECT 1 FROM users WHERE email = :email")?.exists(named_params! {":email": email})
}

/// `false` if there is no such account.
fn insert_session(db: &Connection, new: &NewSession) -> rusqlite::Result<bool> {
    let rows = db
        .prepare_cached(
            "INSERT INTO sessions (id, user_pk, created_at_ms, expires_at_ms)
             SELECT :id, pk, :now, :expires FROM users WHERE id = :user",
        )?
        .execute(named_params! {":id": new.id, ":user": new.user, ":now": new.now, ":expires": new.expires_at})?;
    Ok(rows == 1)
}

fn insert_token(db: &Connection, session_pk: i64, hash: &[u8; 32], expires_at: Timestamp) -> rusqlite::Result<()> {
    db.prepare_cached(
        "INSERT INTO refresh_tokens (session_pk, hash, expires_at_ms) VALUES (:session, :hash, :expires)",
    )?
    .execute(named_params! {":session": session_pk, ":hash": hash, ":expires": expires_at})
    .map(|_| ())
}

fn open(db: &Connection, new: &NewSession) -> Result<SessionAccount> {
    if !insert_session(db, new)? {
        return Err(refuse(AccountError::NotFound));
    }
    insert_token(db, db.last_insert_rowid(), &new.token_hash, new.expires_at)?;
    Ok(SessionAccount { session: new.id, account: demand(db, new.user)? })
}

/// Consumes the presented token if it is live, and returns its session.
fn consume(db: &Connection, rotation: &Rotation) -> rusqlite::Result<Option<i64>> {
    // Unique key (hash).
    db.prepare_cached(
        "UPDATE refresh_tokens
         SET consumed_at_ms = :now, successor_hash = :successor, successor_sealed = :sealed
         WHERE hash = :presented AND consumed_at_ms IS NULL AND expires_at_ms > :now
            AND EXISTS (SELECT 1 FROM sessions WHERE pk = session_pk AND revoked_at_ms IS NULL)
         RETURNING session_pk",
    )?
    .query_row(
        named_params! {
            ":presented": rotation.presented,
            ":successor": rotation.successor,
            ":sealed": rotation.sealed,
            ":now": rotation.now,
        },
        |row| row.get(0),
    )
    .optional()
}

/// Forgets the seal that holds the token just consumed: left in place, seal after seal would lead
/// whoever has an old token and the database to the live one.
fn forget_seal(db: &Connection, consumed: &[u8; 32]) -> rusqlite::Result<()> {
    // Index refresh_tokens_sealed.
    db.prepare_cached(
        "UPDATE refresh_tokens SET successor_sealed = NULL
         WHERE successor_hash = :consumed AND successor_sealed IS NOT NULL",
    )?
    .execute(named_params! {":consumed": consumed})
    .map(|_| ())
}

fn prolong(db: &Connection, session_pk: i64, expires_at: Timestamp) -> rusqlite::Result<()> {
    db.prepare_cached("UPDATE sessions SET expires_at_ms = max(expires_at_ms, :expires) WHERE pk = :session")?
        .execute(named_params! {":session": session_pk, ":expires": expires_at})
        .map(|_| ())
}

fn session_account(db: &Connection, session_pk: i64) -> rusqlite::Result<SessionAccount> {
    db.prepare_cached(
        "SELECT s.id AS session_id, u.id, u.email, u.handle, u.display_name, u.role, u.auth_epoch, u.version,
            u.created_at_ms
         FROM sessions s JOIN users u ON u.pk = s.user_pk WHERE s.pk = :session",
    )?
    .query_row(named_params! {":session": session_pk}, |row| {
        Ok(SessionAccount { session: row.get("session_id")?, account: account_from(row)? })
    })
}

fn find_token(db: &Connection, hash: &[u8; 32]) -> rusqlite::Result<Option<TokenRow>> {
    // Unique key (hash).
    db.prepare_cached(
        "SELECT t.session_pk, s.id AS session_id, s.revoked_at_ms IS NOT NULL AS revoked, t.consumed_at_ms,
            t.successor_sealed
         FROM refresh_tokens t JOIN sessions s ON s.pk = t.session_pk WHERE t.hash = :hash",
    )?
    .query_row(named_params! {":hash": hash}, |row| {
        Ok(TokenRow {
            session_pk: row.get("session_pk")?,
            session: row.get("session_id")?,
            revoked: row.get("revoked")?,
            consumed_at: row.get("consumed_at_ms")?,
            sealed: row.get("successor_sealed")?,
        })
    })
    .optional()
}

/// `false` if the session was not live.
fn revoke(db: &Connection, session: SessionId, reason: &str, now: Timestamp) -> rusqlite::Result<bool> {
    let rows = db
        .prepare_cached(
            "UPDATE sessions SET revoked_at_ms = :now, revoke_reason = :reason
             WHERE id = :session AND revoked_at_ms IS NULL",
        )?
        .execute(named_params! {":session": session, ":reason": reason, ":now": now})?;
    Ok(rows == 1)
}

/// What became of a token that could not be consumed.
fn judge_unconsumable(db: &Connection, rotation: &Rotation) -> rusqlite::Result<Rotated> {
    let Some(token) = find_token(db, &rotation.presented)?.filter(|token| !token.revoked) else {
        return Ok(Rotated::Refused);
    };
    let Some(consumed_at) = token.consumed_at else {
        return Ok(Rotated::Refused);
    };
    // A seal is there until the successor itself is consumed.
    match token.sealed {
        Some(sealed) if rotation.now.since(consumed_at) < rotation.grace => {
            Ok(Rotated::Twin { account: session_account(db, token.session_pk)?, sealed })
        }
        _ => {
            revoke(db, token.session, "reuse", rotation.now)?;
            Ok(Rotated::Reused { session: token.session })
        }
    }
}

fn rotate(db: &Connection, rotation: &Rotation) -> rusqlite::Result<Rotated> {
    let Some(session_pk) = consume(db, rotation)? else {
        return judge_unconsumable(db, rotation);
    };
    forget_seal(db, &rotation.presented)?;
    insert_token(db, session_pk, &rotation.successor, rotation.expires_at)?;
    prolong(db, session_pk, rotation.expires_at)?;
    Ok(Rotated::Fresh(session_account(db, session_pk)?))
}

fn rename(db: &Connection, id: UserId, name: &str, version: i64, now: Timestamp) -> rusqlite::Result<()> {
    db.prepare_cached(
        "UPDATE users SET display_name = :name, version = version + 1, updated_at_ms = :now
         WHERE id = :id AND version = :version",
    )?
    .execute(named_params! {":id": id, ":name": name, ":version": version, ":now": now})
    .map(|_| ())
}

/// Kills every access token of the account.
fn raise_epoch(db: &Connection, id: UserId, now: Timestamp) -> rusqlite::Result<bool> {
    let rows = db
        .prepare_cached("UPDATE users SET auth_epoch = auth_epoch + 1, updated_at_ms = :now WHERE id = :id")?
        .execute(named_params! {":id": id, ":now": now})?;
    Ok(rows == 1)
}

fn write_role(db: &Connection, id: UserId, role: Role) -> rusqlite::Result<()> {
    // The role is part of the account's view, so its version grows too.
    db.prepare_cached("UPDATE users SET role = :role, version = version + 1 WHERE id = :id")?
        .execute(named_params! {":id": id, ":role": role.as_str()})
        .map(|_| ())
}

/// How many live sessions of the account were revoked.
fn revoke_all(db: &Connection, user: UserId, now: Timestamp) -> rusqlite::Result<u64> {
    // Index sessions_user.
    let rows = db
        .prepare_cached(
            "UPDATE sessions SET revoked_at_ms = :now, revoke_reason = 'logout_all'
             WHERE user_pk = (SELECT pk FROM users WHERE id = :user) AND revoked_at_ms IS NULL
                AND expires_at_ms > :now",
        )?
        .execute(named_params! {":user": user, ":now": now})?;
    Ok(rows as u64)
}

fn page(db: &Connection, after: Option<Position>, limit: u16) -> rusqlite::Result<Vec<Account>> {
    let after = after.unwrap_or(Position { sort: i64::MIN, id: [0; 16] });
    // Index users_oldest.
    db.prepare_cached(&format!(
        "{SELECT} WHERE (u.created_at_ms, u.id) > (:sort, :after) ORDER BY u.created_at_ms, u.id LIMIT :limit"
    ))?
    .query_map(named_params! {":sort": after.sort, ":after": &after.id[..], ":limit": limit}, account_from)?
    .collect()
}

fn find_credentials(db: &Connection, email: &str) -> rusqlite::Result<Option<Credentials>> {
    // Unique key (email).
    db.prepare_cached(
        "SELECT id, email, handle, display_name, role, auth_epoch, version, created_at_ms, password_hash
         FROM users WHERE email = :email",
    )?
    .query_row(named_params! {":email": email}, |row| {
        Ok(Credentials { account: account_from(row)?, password_hash: row.get("password_hash")? })
    })
    .optional()
}

fn find_state(
    db: &Connection,
    user: UserId,
    session: SessionId,
    now: Timestamp,
) -> rusqlite::Result<Option<AuthState>> {
    // Unique keys users (id) and sessions (id).
    db.prepare_cached(
        "SELECT u.auth_epoch, u.role, EXISTS (
            SELECT 1 FROM sessions s
            WHERE s.id = :session AND s.user_pk = u.pk AND s.revoked_at_ms IS NULL AND s.expires_at_ms > :now
         ) AS session_live
         FROM users u WHERE u.id = :user",
    )?
    .query_row(named_params! {":user": user, ":session": session, ":now": now}, |row| {
        Ok(AuthState {
            auth_epoch: row.get("auth_epoch")?,
            role: named(row, "role", |text| text.parse().ok())?,
            session_live: row.get("session_live")?,
        })
    })
    .optional()
}

fn prune_tokens(db: &Connection, now: Timestamp, limit: u16) -> rusqlite::Result<usize> {
    // Index refresh_tokens_expiry.
    db.prepare_cached(
        "DELETE FROM refresh_tokens WHERE pk IN (
            SELECT pk FROM refresh_tokens WHERE expires_at_ms <= :now ORDER BY expires_at_ms LIMIT :limit)",
    )?
    .execute(named_params! {":now": now, ":limit": limit})
}

fn prune_families(db: &Connection, now: Timestamp, limit: u16) -> rusqlite::Result<usize> {
    // Index sessions_expiry.
    db.prepare_cached(
        "DELETE FROM sessions WHERE pk IN (
            SELECT pk FROM sessions WHERE expires_at_ms <= :now ORDER BY expires_at_ms LIMIT :limit)",
    )?
    .execute(named_params! {":now": now, ":limit": limit})
}

#[async_trait]
impl AccountStore for SqliteStore {
    async fn create_account(
        &self,
        account: NewAccount,
        session: NewSession,
        causes: Causes,
    ) -> Result<Outcome<SessionAccount>, AccountError> {
        self.command("create an account", causes, move |db, _| {
            if insert_account(db, &account)? {
                return open(db, &session);
            }
            let taken = has_email(db, &account.email)?;
            Err(refuse(if taken { AccountError::EmailTaken } else { AccountError::HandleTaken }))
        })
        .await
    }

    async fn account(&self, id: UserId) -> Result<Option<Account>, AccountError> {
        self.read("read an account", move |db| Ok(find(db, id)?)).await
    }

    async fn credentials(&self, email: &str) -> Result<Option<Credentials>, AccountError> {
        let email = email.to_owned();
        self.read("read credentials", move |db| Ok(find_credentials(db, &email)?)).await
    }

    async fn accounts(&self, after: Option<Position>, limit: u16) -> Result<Vec<Account>, AccountError> {
        self.read("list accounts", move |db| Ok(page(db, after, limit)?)).await
    }

    async fn rename_account(
        &self,
        id: UserId,
        display_name: String,
        expected: Option<i64>,
        now: Timestamp,
        causes: Causes,
    ) -> Result<Outcome<Account>, AccountError> {
        self.command("rename an account", causes, move |db, _| {
            let current = demand(db, id)?.version;
            if expected.is_some_and(|expected| expected != current) {
                return Err(refuse(AccountError::VersionMismatch { current }));
            }
            rename(db, id, &display_name, current, now)?;
            demand(db, id)
        })
        .await
    }

    async fn set_role(&self, id: UserId, role: Role, now: Timestamp) -> Result<Account, AccountError> {
        self.command("set a role", Causes::none(), move |db, _| {
            if !raise_epoch(db, id, now)? {
                return Err(refuse(AccountError::NotFound));
            }
            write_role(db, id, role)?;
            demand(db, id)
        })
        .await
        .map(Outcome::into_inner)
    }

    async fn open_session(&self, session: NewSession, causes: Causes) -> Result<Outcome<SessionAccount>, AccountError> {
        self.command("open a session", causes, move |db, _| open(db, &session)).await
    }

    async fn rotate(&self, rotation: Rotation, causes: Causes) -> Result<Outcome<Rotated>, AccountError> {
        self.command_with("rotate a refresh token", causes, move |db, _, effects| {
            let rotated = rotate(db, &rotation)?;
            if rotated == Rotated::Refused {
                // Nothing was done, so nothing is remembered.
                effects.causes = Causes::none();
            }
            Ok(rotated)
        })
        .await
    }

    async fn revoke_session(
        &self,
        user: UserId,
        session: SessionId,
        now: Timestamp,
        causes: Causes,
    ) -> Result<Outcome<bool>, AccountError> {
        self.command("revoke a session", causes, move |db, _| {
            let live = find_state(db, user, session, now)?.is_some_and(|state| state.session_live);
            Ok(live && revoke(db, session, "logout", now)?)
        })
        .await
    }

    async fn revoke_all_sessions(
        &self,
        user: UserId,
        now: Timestamp,
        causes: Causes,
    ) -> Result<Outcome<u64>, AccountError> {
        self.command("revoke all sessions", causes, move |db, _| {
            if !raise_epoch(db, user, now)? {
                return Err(refuse(AccountError::NotFound));
            }
            Ok(revoke_all(db, user, now)?)
        })
        .await
    }

    async fn auth_state(
        &self,
        user: UserId,
        session: SessionId,
        now: Timestamp,
    ) -> Result<Option<AuthState>, AccountError> {
        self.read("read the state of a session", move |db| Ok(find_state(db, user, session, now)?)).await
    }

    async fn prune_sessions(&self, now: Timestamp, limit: u16) -> Result<u64, StoreError> {
        self.command("prune sessions", Causes::none(), move |db, _| {
            let gone = prune_tokens(db, now, limit)? + prune_families(db, now, limit)?;
            Ok(gone as u64)
        })
        .await
        .map(Outcome::into_inner)
    }
}
